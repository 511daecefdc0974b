#include "order.h"

#include <algorithm>
#include <utility>

namespace sta {
namespace {

constexpr std::int32_t none = -1;

void advance(Clock& clock, const Clock& other) {
    for (std::size_t unit = 0; unit < unit_count; ++unit) clock[unit] = std::max(clock[unit], other[unit]);
}

bool some_semaphore_is_shared(const Run& run) {
    std::array<std::uint32_t, unit_count> posts{}, waits{};
    for (std::size_t index = 0; index < run.order.size; ++index) {
        const Job& job = run.job(static_cast<std::size_t>(run.order[index]));
        posts[static_cast<std::size_t>(job.unit)] |= job.posts;
        waits[static_cast<std::size_t>(job.unit)] |= job.waits;
    }
    std::uint32_t posted = 0, waited = 0;
    for (std::size_t unit = 0; unit < unit_count; ++unit) {
        if ((posted & posts[unit]) || (waited & waits[unit])) return true;
        posted |= posts[unit];
        waited |= waits[unit];
    }
    return false;
}

// For each row how many instructions of each unit lie in front of the last fence before it.
std::vector<Clock> fenced(const Run& run) {
    std::vector<Clock> clocks(run.size());
    Clock counts{}, at_fence{};
    for (std::size_t row = 0; row < run.size(); ++row) {
        clocks[row] = at_fence;
        if (run.is_fence(row)) {
            at_fence = counts;
        } else {
            ++counts[static_cast<std::size_t>(run.unit[row])];
        }
    }
    return clocks;
}

}  // namespace

std::optional<std::vector<Clock>> clocks_before(const Run& run) {
    if (some_semaphore_is_shared(run)) return std::nullopt;
    std::vector<Clock> clocks = fenced(run);
    const std::vector<Handover> met = handovers(run);
    // For each row one of its handovers, and for each of these the next one of the same row.
    std::vector<std::int32_t> first(run.size(), none), next(met.size());
    for (std::size_t number = 0; number < met.size(); ++number) {
        next[number] = std::exchange(first[static_cast<std::size_t>(met[number].wait)], static_cast<std::int32_t>(number));
    }
    std::array<Clock, unit_count> latest{};
    for (std::size_t index = 0; index < run.order.size; ++index) {
        const auto row = static_cast<std::size_t>(run.order[index]);
        Clock& clock = clocks[row];
        advance(clock, latest[static_cast<std::size_t>(run.unit[row])]);
        for (std::int32_t number = first[row]; number != none; number = next[static_cast<std::size_t>(number)]) {
            const auto post = static_cast<std::size_t>(met[static_cast<std::size_t>(number)].post);
            advance(clock, clocks[post]);
            std::int32_t& complete = clock[static_cast<std::size_t>(run.unit[post])];
            complete = std::max(complete, run.position[post] + 1);
        }
        latest[static_cast<std::size_t>(run.unit[row])] = clock;
    }
    return clocks;
}

}  // namespace sta
