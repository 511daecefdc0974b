#include "checks.h"

#include <algorithm>

namespace sta {
namespace {

// The C++ library keeps the largest element in front.
template <typename Post>
bool later(const Post& left, const Post& right) {
    return left.time > right.time;
}

// Entries that have been taken are dropped when they are this many.
constexpr std::size_t most_taken = 256;

}  // namespace

void Queues::Queue::pop() {
    if (++first < most_taken) return;
    entries.erase(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(first));
    first = 0;
}

bool Queues::enter(const Job& job, std::int64_t busy) {
    now_ += 1;
    const auto unit = static_cast<std::size_t>(job.unit);
    Queue& queue = queues_[unit];
    while (queue.size() >= depth_) {
        const std::optional<std::int64_t> time = advance();
        if (!time) return false;
        if (queue.size() < depth_ && *time > now_) now_ = *time;
    }
    queue.entries.push_back({now_, &job, busy});
    if (queue.size() == 1) ready_[unit] = std::max(now_, free_[unit]);
    return true;
}

bool Queues::drain() {
    const auto waits = [](const Queue& queue) { return queue.size() != 0; };
    while (!posts_.empty() || std::any_of(queues_.begin(), queues_.end(), waits)) {
        if (!advance()) return false;
    }
    now_ = std::max(now_ + 1, *std::max_element(complete_.begin(), complete_.end()));
    return true;
}

std::optional<std::int64_t> Queues::advance() {
    const auto next = std::min_element(ready_.begin(), ready_.end());
    if (!posts_.empty() && posts_.front().time <= *next) return post();
    if (*next == never) return std::nullopt;
    const std::int64_t time = *next;
    start(static_cast<int>(next - ready_.begin()), time);
    return time;
}

std::int64_t Queues::post() {
    std::pop_heap(posts_.begin(), posts_.end(), later<Post>);
    const Post post = posts_.back();
    posts_.pop_back();
    for (int semaphore = 0; semaphore < semaphore_count; ++semaphore) {
        semaphores_[static_cast<std::size_t>(semaphore)] += post.semaphores >> semaphore & 1;
    }
    for (std::size_t unit = 0; unit < unit_count; ++unit) {
        std::optional<Blocked>& blocked = blocked_[unit];
        if (!blocked || !(post.semaphores >> blocked->semaphore & 1)) continue;
        ready_[unit] = std::max(blocked->since, post.time);
        blocked.reset();
    }
    return post.time;
}

void Queues::start(int number, std::int64_t time) {
    const auto unit = static_cast<std::size_t>(number);
    Queue& queue = queues_[unit];
    const Entry entry = queue.entries[queue.first];
    for (std::uint32_t waits = entry.job->waits; waits; waits &= waits - 1) {
        const int semaphore = __builtin_ctz(waits);
        if (semaphores_[static_cast<std::size_t>(semaphore)]) continue;
        ready_[unit] = never;
        blocked_[unit] = Blocked{time, semaphore};
        return;
    }
    for (std::uint32_t waits = entry.job->waits; waits; waits &= waits - 1) {
        --semaphores_[static_cast<std::size_t>(__builtin_ctz(waits))];
    }
    queue.pop();
    const std::int64_t end = time + entry.busy;
    complete_[unit] = std::max(complete_[unit], end + entry.job->latency);
    busy_[unit] += entry.busy;
    free_[unit] = end;
    ready_[unit] = queue.size() ? std::max(end, queue.entries[queue.first].time) : never;
    if (!entry.job->posts) return;
    posts_.push_back({complete_[unit], entry.job->posts});
    std::push_heap(posts_.begin(), posts_.end(), later<Post>);
}

bool TaintMap::apply(const TaintRule& rule, const std::int64_t* counters) {
    const bool tainted = rule.always || (!rule.never && is_tainted(rule.sources, counters));
    if (rule.transfers && tainted) return false;
    for (const TaintRule::Result& result : rule.results) set(result.operand, counters, tainted && !result.may_leave);
    return true;
}

bool TaintMap::is_tainted(const std::vector<Operand>& sources, const std::int64_t* counters) const {
    for (const Operand& source : sources) {
        const std::uint8_t* bytes = at(source, counters);
        const std::int64_t stride = source.stride.at(counters);
        for (std::int64_t row = 0; row < source.rows; ++row) {
            if (std::memchr(bytes + row * stride, 1, static_cast<std::size_t>(source.row_bytes))) return true;
        }
    }
    return false;
}

void TaintMap::set(const Operand& operand, const std::int64_t* counters, bool tainted) {
    std::uint8_t* bytes = at(operand, counters);
    const std::int64_t stride = operand.stride.at(counters);
    for (std::int64_t row = 0; row < operand.rows; ++row) {
        std::memset(bytes + row * stride, tainted, static_cast<std::size_t>(operand.row_bytes));
    }
}

std::uint8_t* TaintMap::at(const Operand& operand, const std::int64_t* counters) const {
    return (operand.space == Space::spad ? spad_ : acc_).data() + operand.address.at(counters);
}

}  // namespace sta
