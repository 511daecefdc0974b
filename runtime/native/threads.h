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

    // Calls work(first, last) for consecutive parts of 0..count-1, each a multiple of `grain` but for the last, one on
    // each thread. `work` must not throw.
    template <typename Work>
    void share(int count, int grain, const Work& work) {
        const int parts = threads();
        if (parts == 1 || count <= grain) {
            work(0, count);
            return;
        }
        const int grains = (count + grain - 1) / grain;
        const auto part = [&](int index) {
            const int first = grains * index / parts * grain, end = grains * (index + 1) / parts * grain;
            const int last = end < count ? end : count;
            if (first < last) work(first, last);
        };
        using Part = decltype(part);
        start([](const void* context, int index) { (*static_cast<const Part*>(context))(index); }, &part);
        part(0);
        finish();
    }

private:
    using Call = void (*)(const void*, int);

    void start(Call call, const void* context);
    void finish();
    void work(int index);

    Call call_ = nullptr;
    const void* context_ = nullptr;
    std::atomic<std::uint32_t> round_{0};
    std::atomic<int> working_{0};
    std::atomic<bool> ending_{false};
    std::vector<std::thread> workers_;
};

}  // namespace sta
