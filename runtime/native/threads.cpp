#include "threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sta {
namespace {

// An instruction takes microseconds: that long it is worth waiting without giving the processor away.
constexpr int patience = 4000;

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

}  // namespace

Team::Team(int threads) {
    for (int index = 1; index < threads; ++index) workers_.emplace_back([this, index] { work(index); });
}

Team::~Team() {
    ending_.store(true);
    round_.fetch_add(1);
    round_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Team::start(Call call, const void* context) {
    call_ = call;
    context_ = context;
    working_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
}

void Team::finish() {
    for (int spins = 0; working_.load(std::memory_order_acquire) != 0; ++spins) {
        if (spins < patience) pause();
        else std::this_thread::yield();
    }
}

void Team::work(int index) {
    std::uint32_t seen = 0;
    while (true) {
        std::uint32_t round = round_.load(std::memory_order_acquire);
        for (int spins = 0; round == seen && spins < patience; ++spins) {
            pause();
            round = round_.load(std::memory_order_acquire);
        }
        if (round == seen) {
            round_.wait(seen, std::memory_order_acquire);
            continue;
        }
        seen = round;
        if (ending_.load()) return;
        call_(context_, index);
        working_.fetch_sub(1, std::memory_order_release);
    }
}

}  // namespace sta
