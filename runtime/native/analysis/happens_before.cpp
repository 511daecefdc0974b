#include "analysis/happens_before.h"

#include <algorithm>
#include <utility>

namespace sta {
namespace {

constexpr std::int32_t none = -1;

void advance(std::int32_t* clock, const std::int32_t* other, std::size_t units) {
    for (std::size_t unit = 0; unit < units; ++unit) clock[unit] = std::max(clock[unit], other[unit]);
}

bool some_semaphore_is_shared(const Run& run) {
    std::vector<Semaphores> posts(run.units()), waits(run.units());
    for (std::size_t index = 0; index < run.order.size; ++index) {
        const Job& job = run.job(static_cast<std::size_t>(run.order[index]));
        posts[static_cast<std::size_t>(job.unit)] |= job.posts;
        waits[static_cast<std::size_t>(job.unit)] |= job.waits;
    }
    Semaphores posted = 0, waited = 0;
    for (std::size_t unit = 0; unit < run.units(); ++unit) {
        if ((posted & posts[unit]) || (waited & waits[unit])) return true;
        posted |= posts[unit];
        waited |= waits[unit];
    }
    return false;
}

// For each row how many instructions of each unit lie in front of the last fence before it.
Clocks fenced(const Run& run) {
    Clocks clocks(run.size(), run.units());
    std::vector<std::int32_t> counts(run.units()), at_fence(run.units());
    for (std::size_t row = 0; row < run.size(); ++row) {
        std::copy(at_fence.begin(), at_fence.end(), clocks[row]);
        if (run.is_fence(row)) {
            at_fence = counts;
        } else {
            ++counts[static_cast<std::size_t>(run.unit[row])];
        }
    }
    return clocks;
}

}  // namespace

std::optional<Clocks> clocks_before(const Run& run) {
    if (some_semaphore_is_shared(run)) return std::nullopt;
    const std::size_t units = run.units();
    Clocks clocks = fenced(run);
    const std::vector<Handover> met = handovers(run);
    // For each row one of its handovers, and for each of these the next one of the same row.
    std::vector<std::int32_t> first(run.size(), none), next(met.size());
    for (std::size_t number = 0; number < met.size(); ++number) {
        next[number] = std::exchange(first[static_cast<std::size_t>(met[number].wait)], static_cast<std::int32_t>(number));
    }
    Clocks latest(units, units);
    for (std::size_t index = 0; index < run.order.size; ++index) {
        const auto row = static_cast<std::size_t>(run.order[index]);
        std::int32_t *clock = clocks[row], *of_unit = latest[static_cast<std::size_t>(run.unit[row])];
        advance(clock, of_unit, units);
        for (std::int32_t number = first[row]; number != none; number = next[static_cast<std::size_t>(number)]) {
            const auto post = static_cast<std::size_t>(met[static_cast<std::size_t>(number)].post);
            advance(clock, clocks[post], units);
            std::int32_t& complete = clock[static_cast<std::size_t>(run.unit[post])];
            complete = std::max(complete, run.position[post] + 1);
        }
        std::copy_n(clock, units, of_unit);
    }
    return clocks;
}

}  // namespace sta
