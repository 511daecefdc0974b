// A team of threads that share the rows of an instruction.

#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace sta {

class Team {
public:
    // The calling thread and `threads - 1` more.
    explicit Team(int threads);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    // Calls work(first, last) for all parts of 0..count-1, each of `grain` but for the last, on whatever threads are
    // there: the caller does not wait for threads that do not run, but for parts that these have begun. `work` must not
    // throw.
    template <typename Work>
    void share(int count, int grain, const Work& work) {
        const int parts = (count + grain - 1) / grain;
        if (threads() == 1 || parts == 1) {
            work(0, count);
            return;
        }
        const auto part = [&](int index) {
            const int first = index * grain;
            work(first, first + grain < count ? first + grain : count);
        };
        using Part = decltype(part);
        run([](const void* context, int index) { (*static_cast<const Part*>(context))(index); }, &part, parts);
    }

private:
    using Call = void (*)(const void*, int);

    void run(Call call, const void* context, int parts);
    // Takes parts of a round until there are none left.
    void take_parts(std::uint32_t round);
    void work();

    // Of the round that goes on; they change between rounds only, when all parts are done.
    Call call_ = nullptr;
    const void* context_ = nullptr;
    std::atomic<std::uint32_t> parts_{0};
    // The number of the round, and of the part that is taken next.
    std::atomic<std::uint64_t> next_{0};
    std::atomic<std::uint32_t> done_{0};
    std::atomic<std::uint32_t> round_{0};
    std::atomic<bool> ending_{false};
    std::vector<std::thread> workers_;
};

}  // namespace sta
