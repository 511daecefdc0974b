// A team of threads that share the rows of instructions.

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace sta {

// A rectangle of memory of which a thread touches the rows that it is given, and no others; with a stride of 0, what all
// threads touch.
struct SharedRows {
    const void* start;
    std::int64_t stride, row_bytes;
    bool written;
};

// An instruction takes microseconds, a line of cache that goes from one processor to another a tenth of one. So a worker
// has the same rows in each instruction, which are in its cache then; all that it needs lies together in its box; and the
// caller, who decodes the program, need not wait for it: it may go ahead as long as the rows of different threads have
// nothing to do with each other. What a worker has not begun when the caller waits, the caller does.
class Team {
public:
    // The calling thread and `threads - 1` more, or as many of these as the system gives: what they would have done, the
    // caller does.
    explicit Team(int threads);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    // Rectangles that work which runs ahead may touch.
    static constexpr std::size_t most_touched = 5;

    int threads() const { return static_cast<int>(boxes_.size()) + 1; }

    // Calls work(first, last) for ranges that make up 0..rows-1, and returns whether all have returned true. `work` is
    // copied, and must not throw. Nothing may be going on.
    template <typename Work>
    bool share(int rows, const Work& work) {
        split(rows);
        if (shares_ == 1) return work(0, rows);
        find_ranges({});
        hand_out(work);
        const bool own = work(0, starts_[1]);
        return wait() && own;
    }

    // The same without waiting for the others, but for those whose rows this touches; `wait` says how it went. Until
    // then nothing else may touch any of the rows, but for what runs ahead as well. False if the threads would touch
    // rows of each other; then nothing has happened. Work that finds no memory has failed.
    template <typename Work>
    bool run_ahead(int rows, std::span<const SharedRows> touched, const Work& work) {
        split(rows);
        find_ranges(touched);
        if (shares_meet()) return false;
        if (jobs_meet()) wait_for_all();
        hand_out(work);
        if (!attempt(work, 0, starts_[1])) failed_ = true;
        return true;
    }

    // Waits until nothing goes on any more, and returns whether all that has run ahead since has returned true.
    bool wait() {
        if (!is_ahead_) return true;
        wait_for_all();
        is_ahead_ = false;
        return !std::exchange(failed_, false);
    }

private:
    static constexpr std::uint32_t most_jobs = 16;

    // Bytes that work touches.
    struct Range {
        std::uintptr_t first, last;
        bool written;

        bool meets(const Range& other) const {
            return (written || other.written) && first < other.last && other.first < last;
        }
    };

    struct Ranges {
        std::size_t count = 0;
        std::array<Range, most_touched> all;
    };

    struct Job {
        static constexpr std::size_t room = 168;

        int first = 0, last = 0;
        bool (*call)(const void*, int, int) = nullptr;
        alignas(8) std::byte work[room];
    };

    // The jobs of a worker, done one after the other by whoever is at it: the worker, or the caller in its place.
    struct Box {
        alignas(128) std::atomic<std::uint32_t> posted{0};
        alignas(128) std::atomic<std::uint32_t> done{0};
        bool failed = false;  // of what is done
        std::atomic<bool> is_attended{false};
        alignas(128) std::array<Job, most_jobs> jobs;
        // The caller's alone: of how many jobs it knows that they are done, and what the others touch.
        alignas(128) std::uint32_t known_done = 0;
        std::array<Ranges, most_jobs> ranges{};

        // Does all that is posted, unless somebody else is at it.
        bool attend();
    };

    // Finds the shares of rows.
    void split(int rows);
    // Finds what each share touches.
    void find_ranges(std::span<const SharedRows> touched);

    template <typename Work>
    static bool attempt(const Work& work, int first, int last) {
        try {
            return work(first, last);
        } catch (const std::bad_alloc&) {
            return false;
        }
    }

    template <typename Work>
    void hand_out(const Work& work) {
        static_assert(sizeof(Work) <= Job::room && std::is_trivially_copyable_v<Work>);
        is_ahead_ = true;
        for (std::size_t share = 1; share < shares_; ++share) {
            Box& box = boxes_[share - 1];
            Job& job = place(box, share);
            new (job.work) Work(work);
            job.call = [](const void* its, int first, int last) {
                return attempt(*static_cast<const Work*>(its), first, last);
            };
            post(box);
        }
    }

    // Finds room for a job, and notes what it touches.
    Job& place(Box& box, std::size_t share);
    static void post(Box& box);
    // Whether shares of the instruction touch what others of them do.
    bool shares_meet() const;
    // Whether they touch what another thread may still be at.
    bool jobs_meet() const;
    static bool meets_jobs(const Ranges& ranges, const Box& box);
    static bool meet(const Ranges& left, const Ranges& right);
    void wait_for_all();
    static void wait_for(Box& box, std::uint32_t jobs_left);
    void serve(Box& box);

    int rows_ = 0;             // of the instruction, in
    std::size_t shares_ = 1;   // shares, which begin at
    std::vector<int> starts_;  // these rows, and end with the rows
    std::vector<Ranges> ranges_;
    bool is_ahead_ = false;
    bool failed_ = false;  // of what has run ahead
    std::atomic<bool> ending_{false};
    std::vector<Box> boxes_;  // one for each worker
    std::vector<std::thread> workers_;
    pid_t process_;  // in which the workers are
};

}  // namespace sta
