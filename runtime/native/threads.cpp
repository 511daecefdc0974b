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
    for (int index = 1; index < threads; ++index) workers_.emplace_back([this] { work(); });
}

Team::~Team() {
    ending_.store(true);
    round_.fetch_add(1);
    round_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Team::run(Call call, const void* context, int parts) {
    call_ = call;
    context_ = context;
    parts_.store(static_cast<std::uint32_t>(parts), std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const std::uint32_t round = round_.load(std::memory_order_relaxed) + 1;
    next_.store(std::uint64_t{round} << 32, std::memory_order_release);
    round_.store(round, std::memory_order_release);
    round_.notify_all();
    take_parts(round);
    for (int spins = 0; done_.load(std::memory_order_acquire) != static_cast<std::uint32_t>(parts); ++spins) {
        if (spins < patience) pause();
        else std::this_thread::yield();
    }
}

void Team::take_parts(std::uint32_t round) {
    std::uint64_t next = next_.load(std::memory_order_acquire);
    while (true) {
        // Whoever comes late finds another round, or nothing left.
        if (next >> 32 != round) return;
        const auto part = static_cast<std::uint32_t>(next);
        if (part >= parts_.load(std::memory_order_relaxed)) return;
        if (!next_.compare_exchange_weak(next, next + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        call_(context_, static_cast<int>(part));
        done_.fetch_add(1, std::memory_order_release);
        next = next_.load(std::memory_order_acquire);
    }
}

void Team::work() {
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
        take_parts(round);
    }
}

}  // namespace sta
