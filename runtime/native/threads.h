// A team of threads that share the rows of an instruction.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

namespace sta {

// An instruction takes microseconds, a line of cache that goes from one processor to another a tenth of one: so all that
// a worker needs lies together in its box, it answers in one line more, and it has the same rows in each instruction,
// which are in its cache then. What it has not begun when the caller is done with its own share, the caller does.
class Team {
public:
    // The calling thread and `threads - 1` more.
    explicit Team(int threads);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int threads() const { return static_cast<int>(boxes_.size()) + 1; }

    // Calls work(first, last) for ranges that make up 0..rows-1, and returns whether all have returned true. `work` is
    // copied, and must not throw.
    template <typename Work>
    bool share(int rows, const Work& work) {
        static_assert(sizeof(Work) <= Box::room && std::is_trivially_copyable_v<Work>);
        // Kernels work on eight rows at a time or more.
        const int groups = (rows + 7) / 8, shares = std::min(threads(), groups);
        if (shares == 1) return work(0, rows);
        const auto start = [&](int share) { return share == shares ? rows : groups * share / shares * 8; };
        ticket_ += 2;
        for (int share = 1; share < shares; ++share) {
            Box& box = boxes_[static_cast<std::size_t>(share) - 1];
            new (box.work) Work(work);
            box.call = [](const void* work, int first, int last) { return (*static_cast<const Work*>(work))(first, last); };
            box.first = start(share);
            box.last = start(share + 1);
            box.ticket.store(ticket_, std::memory_order_release);
            box.ticket.notify_one();
        }
        bool done = work(0, start(1));
        for (int share = 1; share < shares; ++share) done = finish(boxes_[static_cast<std::size_t>(share) - 1]) && done;
        return done;
    }

private:
    struct Box {
        static constexpr std::size_t room = 168;

        // Even while there is work that nobody has taken; whoever takes it adds one. Only they read what follows, and
        // it is not written again before they are done.
        alignas(128) std::atomic<std::uint32_t> ticket{1};
        int first = 0, last = 0;
        bool (*call)(const void*, int, int) = nullptr;
        alignas(8) std::byte work[room];
        // The last ticket that the worker has done; one more if its work returned false.
        alignas(128) std::atomic<std::uint32_t> done{0};

        // Whether the work of a ticket is now the caller's, and nobody else's.
        bool take(std::uint32_t its_ticket);
        bool run() const { return call(work, first, last); }
    };

    // Does what a worker has not begun, or waits for it; returns what the work returned.
    bool finish(Box& box);
    void serve(Box& box);

    std::uint32_t ticket_ = 0;
    std::atomic<bool> ending_{false};
    std::vector<Box> boxes_;  // one for each worker
    std::vector<std::thread> workers_;
};

}  // namespace sta
