#include "threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sta {
namespace {

// That long it is worth waiting without giving the processor away: some instructions.
constexpr int patience = 4000;

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

}  // namespace

Team::Team(int threads) : boxes_(static_cast<std::size_t>(threads) - 1) {
    for (Box& box : boxes_) workers_.emplace_back([this, &box] { serve(box); });
}

Team::~Team() {
    ending_.store(true);
    for (Box& box : boxes_) {
        box.ticket.store(ticket_ + 2);
        box.ticket.notify_one();
    }
    for (std::thread& worker : workers_) worker.join();
}

bool Team::Box::take(std::uint32_t its_ticket) {
    return ticket.compare_exchange_strong(its_ticket, its_ticket + 1, std::memory_order_acquire);
}

bool Team::finish(Box& box) {
    if (box.take(ticket_)) return box.run();
    std::uint32_t done = box.done.load(std::memory_order_acquire);
    for (int spins = 0; done / 2 != ticket_ / 2; ++spins) {
        if (spins < patience) pause();
        else std::this_thread::yield();
        done = box.done.load(std::memory_order_acquire);
    }
    return done == ticket_;
}

void Team::serve(Box& box) {
    while (true) {
        std::uint32_t ticket = box.ticket.load(std::memory_order_acquire);
        for (int spins = 0; ticket % 2 && spins < patience; ++spins) {
            pause();
            ticket = box.ticket.load(std::memory_order_acquire);
        }
        if (ticket % 2) {
            box.ticket.wait(ticket, std::memory_order_acquire);
            continue;
        }
        if (ending_.load()) return;
        if (!box.take(ticket)) continue;
        const bool result = box.run();
        box.done.store(ticket + (result ? 0 : 1), std::memory_order_release);
    }
}

}  // namespace sta
