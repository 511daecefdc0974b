#include "machine/threads.h"

#include <exception>

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sta {
namespace {

// That long it is worth waiting without giving the processor away: some instructions.
constexpr int patience = 4000;

// So many jobs may have been done without being known to: to look costs a line of cache, to compare an instruction with
// jobs that are long done costs more.
constexpr std::uint32_t most_unknown = 4;

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

}  // namespace

Team::Team(int threads)
    : starts_(static_cast<std::size_t>(threads) + 1),
      ranges_(static_cast<std::size_t>(threads)),
      boxes_(static_cast<std::size_t>(threads) - 1),
      process_(getpid()) {
    workers_.reserve(boxes_.size());
    try {
        for (Box& box : boxes_) workers_.emplace_back([this, &box] { serve(box); });
    } catch (const std::exception&) {
        // There are as many threads as there may be.
    }
}

Team::~Team() {
    if (getpid() != process_) {
        // A process that has been forked off has the memory, not the workers: there is nobody to wait for.
        new std::vector<std::thread>(std::move(workers_));
        return;
    }
    wait_for_all();
    ending_.store(true);
    for (Box& box : boxes_) {
        // A worker that is still looking for jobs may take this for one.
        box.jobs[box.posted.load(std::memory_order_relaxed) % most_jobs].call = [](const void*, int, int) { return true; };
        // A worker that falls asleep just now must not be missed: nobody would wake it. Elsewhere the caller does its jobs.
        box.posted.fetch_add(1, std::memory_order_seq_cst);
        box.posted.notify_one();
    }
    for (std::thread& worker : workers_) worker.join();
}

void Team::split(int rows) {
    if (rows == rows_) return;
    // Kernels work on eight rows at a time or more.
    const int groups = (rows + 7) / 8, shares = std::min(threads(), groups);
    for (int share = 1; share < shares; ++share) starts_[static_cast<std::size_t>(share)] = groups * share / shares * 8;
    rows_ = rows;
    shares_ = static_cast<std::size_t>(shares);
    starts_[shares_] = rows;
}

void Team::find_ranges(std::span<const SharedRows> touched) {
    for (std::size_t share = 0; share < shares_; ++share) {
        const std::int64_t first = starts_[share], last = starts_[share + 1] - 1;
        ranges_[share].count = touched.size();
        for (std::size_t i = 0; i < touched.size(); ++i) {
            const auto address = reinterpret_cast<std::uintptr_t>(touched[i].start);
            const std::int64_t end = last * touched[i].stride + touched[i].row_bytes;
            ranges_[share].all[i] = {address + static_cast<std::uintptr_t>(first * touched[i].stride),
                                     address + static_cast<std::uintptr_t>(end), touched[i].written};
        }
    }
}

Team::Job& Team::place(Box& box, std::size_t share) {
    const std::uint32_t posted = box.posted.load(std::memory_order_relaxed), slot = posted % most_jobs;
    if (posted - box.known_done >= most_unknown) box.known_done = box.done.load(std::memory_order_acquire);
    wait_for(box, most_jobs - 1);
    box.ranges[slot] = ranges_[share];
    box.jobs[slot].first = starts_[share];
    box.jobs[slot].last = starts_[share + 1];
    return box.jobs[slot];
}

void Team::post(Box& box) {
    box.posted.store(box.posted.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    box.posted.notify_one();
}

bool Team::meet(const Ranges& left, const Ranges& right) {
    for (std::size_t i = 0; i < left.count; ++i) {
        for (std::size_t j = 0; j < right.count; ++j) {
            if (left.all[i].meets(right.all[j])) return true;
        }
    }
    return false;
}

bool Team::shares_meet() const {
    for (std::size_t share = 1; share < shares_; ++share) {
        for (std::size_t other = 0; other < share; ++other) {
            if (meet(ranges_[share], ranges_[other])) return true;
        }
    }
    return false;
}

bool Team::jobs_meet() const {
    for (std::size_t share = 0; share < shares_; ++share) {
        for (std::size_t worker = 0; worker < boxes_.size(); ++worker) {
            // A thread does what it is given in order.
            if (share != worker + 1 && meets_jobs(ranges_[share], boxes_[worker])) return true;
        }
    }
    return false;
}

bool Team::meets_jobs(const Ranges& ranges, const Box& box) {
    const std::uint32_t posted = box.posted.load(std::memory_order_relaxed);
    for (std::uint32_t job = box.known_done; job != posted; ++job) {
        if (meet(ranges, box.ranges[job % most_jobs])) return true;
    }
    return false;
}

void Team::wait_for_all() {
    for (Box& box : boxes_) {
        wait_for(box, 0);
        if (box.failed) failed_ = true;
        box.failed = false;
    }
}

void Team::wait_for(Box& box, std::uint32_t jobs_left) {
    const std::uint32_t posted = box.posted.load(std::memory_order_relaxed);
    if (posted - box.known_done <= jobs_left) return;
    box.known_done = box.done.load(std::memory_order_acquire);
    for (int spins = 0; posted - box.known_done > jobs_left; ++spins) {
        if (!box.attend()) {
            if (spins < patience) pause();
            else std::this_thread::yield();
        }
        box.known_done = box.done.load(std::memory_order_acquire);
    }
}

bool Team::Box::attend() {
    // Looking first leaves the line of cache with whoever is at it.
    if (is_attended.load(std::memory_order_relaxed) || is_attended.exchange(true, std::memory_order_acquire)) return false;
    for (std::uint32_t job = done.load(std::memory_order_relaxed); job != posted.load(std::memory_order_acquire); ++job) {
        const Job& its = jobs[job % most_jobs];
        if (!its.call(its.work, its.first, its.last)) failed = true;
        done.store(job + 1, std::memory_order_release);
    }
    is_attended.store(false, std::memory_order_release);
    return true;
}

void Team::serve(Box& box) {
    while (!ending_.load()) {
        const std::uint32_t done = box.done.load(std::memory_order_acquire);
        std::uint32_t posted = box.posted.load(std::memory_order_acquire);
        for (int spins = 0; posted == done && spins < patience; ++spins) {
            pause();
            posted = box.posted.load(std::memory_order_acquire);
        }
        if (posted == done) {
            box.posted.wait(posted, std::memory_order_acquire);
            continue;
        }
        if (!box.attend()) pause();
    }
}

}  // namespace sta
