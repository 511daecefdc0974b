#include "analysis/timing.h"

#include <algorithm>
#include <bit>

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

Queues::Queues(const MachineDescription& machine, Schedule* schedule)
    : depth_(machine.queue_depth),
      schedule_(schedule),
      busy_(static_cast<std::size_t>(machine.units)),
      free_(busy_),
      complete_(busy_),
      ready_(busy_.size(), never),
      queues_(busy_.size()),
      blocked_(busy_.size()) {}

void Queues::Queue::pop() {
    if (++first < most_taken) return;
    entries.erase(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(first));
    first = 0;
}

bool Queues::enter(int pc, const Job& job, std::int64_t busy) {
    now_ += 1;
    const std::int64_t ready = now_;
    const auto unit = static_cast<std::size_t>(job.unit);
    Queue& queue = queues_[unit];
    while (queue.size() >= depth_) {
        const std::optional<std::int64_t> time = advance();
        if (!time) return false;
        if (queue.size() < depth_ && *time > now_) now_ = *time;
    }
    queue.entries.push_back({now_, &job, busy, add_row(pc, job.unit, ready, now_)});
    if (queue.size() == 1) ready_[unit] = std::max(now_, free_[unit]);
    return true;
}

bool Queues::drain(int pc) {
    const std::int64_t issued = now_;
    const auto waits = [](const Queue& queue) { return queue.size() != 0; };
    while (!posts_.empty() || std::any_of(queues_.begin(), queues_.end(), waits)) {
        if (!advance()) return false;
    }
    now_ = std::max(now_ + 1, *std::max_element(complete_.begin(), complete_.end()));
    const std::size_t row = add_row(pc, static_cast<int>(queues_.size()), issued + 1, now_);
    if (!schedule_) return true;
    schedule_->start[row] = issued;
    schedule_->end[row] = schedule_->complete[row] = now_;
    return true;
}

std::size_t Queues::add_row(int pc, int unit, std::int64_t ready, std::int64_t entered) {
    if (!schedule_) return 0;
    schedule_->pc.push_back(pc);
    schedule_->unit.push_back(unit);
    schedule_->ready.push_back(ready);
    schedule_->entered.push_back(entered);
    for (std::vector<std::int64_t>* times : {&schedule_->start, &schedule_->end, &schedule_->complete}) times->push_back(0);
    return schedule_->pc.size() - 1;
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
    const Post earliest = posts_.back();
    posts_.pop_back();
    for (Semaphores left = earliest.semaphores; left; left &= left - 1) {
        ++semaphores_[static_cast<std::size_t>(std::countr_zero(left))];
    }
    for (std::size_t unit = 0; unit < blocked_.size(); ++unit) {
        std::optional<Blocked>& blocked = blocked_[unit];
        if (!blocked || !(earliest.semaphores >> blocked->semaphore & 1)) continue;
        ready_[unit] = std::max(blocked->since, earliest.time);
        blocked.reset();
    }
    return earliest.time;
}

void Queues::start(int number, std::int64_t time) {
    const auto unit = static_cast<std::size_t>(number);
    Queue& queue = queues_[unit];
    const Entry entry = queue.entries[queue.first];
    for (Semaphores waits = entry.job->waits; waits; waits &= waits - 1) {
        const int semaphore = std::countr_zero(waits);
        if (semaphores_[static_cast<std::size_t>(semaphore)]) continue;
        ready_[unit] = never;
        blocked_[unit] = Blocked{time, semaphore};
        return;
    }
    for (Semaphores waits = entry.job->waits; waits; waits &= waits - 1) {
        --semaphores_[static_cast<std::size_t>(std::countr_zero(waits))];
    }
    queue.pop();
    const std::int64_t end = time + entry.busy;
    complete_[unit] = std::max(complete_[unit], end + entry.job->latency);
    busy_[unit] += entry.busy;
    free_[unit] = end;
    ready_[unit] = queue.size() ? std::max(end, queue.entries[queue.first].time) : never;
    if (schedule_) {
        schedule_->start[entry.row] = time;
        schedule_->end[entry.row] = end;
        schedule_->complete[entry.row] = complete_[unit];
        schedule_->order.push_back(static_cast<std::int64_t>(entry.row));
    }
    if (!entry.job->posts) return;
    posts_.push_back({complete_[unit], entry.job->posts});
    std::push_heap(posts_.begin(), posts_.end(), later<Post>);
}

namespace {

// Lets the sequencer issue a whole run into the queues, and drains them; false in a deadlock.
bool play(const Program& program, const Program::Look& look, Queues& queues) {
    return program.follow(look, [&](int pc, const std::int64_t* counters, std::int64_t issued) {
        queues.issue(issued - 1);
        const Job* job = program.job(pc);
        if (!job) return queues.drain(pc);
        const bool is_one_piece = job->may_be_one_piece && job->stride.at(counters) == job->row_bytes;
        return queues.enter(pc, *job, is_one_piece ? job->busy_in_one_piece : job->busy);
    });
}

}  // namespace

std::optional<Timing> simulate(const Program& program, const Program::Look& look) {
    Queues queues(program.runs_on());
    if (!play(program, look, queues)) return std::nullopt;
    return queues.timing();
}

std::optional<Schedule> record(const Program& program, const Program::Look& look) {
    Schedule schedule;
    Queues queues(program.runs_on(), &schedule);
    if (!play(program, look, queues)) return std::nullopt;
    return schedule;
}

}  // namespace sta
