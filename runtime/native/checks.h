// The walks through a run that do not depend on data: how long it takes, and where attention scores go. See
// runtime/timing.py and runtime/taint.py, which define them, and word the errors.

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "description.h"
#include "memory.h"

namespace sta {

struct Timing {
    std::int64_t cycles = 0;
    std::array<std::int64_t, unit_count> busy{};
};

// The units with their queues, and the semaphores.
class Queues {
public:
    explicit Queues(std::int64_t depth) : depth_(depth) {}

    // The sequencer issues instructions that no unit takes.
    void issue(std::int64_t instructions) { now_ += instructions; }
    // Puts an instruction into its unit's queue; false in a deadlock.
    bool enter(const Job& job, std::int64_t busy);
    // Waits until all queues are empty and all results complete; false in a deadlock.
    bool drain();

    Timing timing() const { return {now_, busy_}; }

private:
    struct Entry {
        std::int64_t time;
        const Job* job;
        std::int64_t busy;
    };
    struct Post {
        std::int64_t time;
        std::uint32_t semaphores;
    };
    struct Blocked {
        std::int64_t since;
        int semaphore;
    };
    // A queue from which instructions are taken at the front.
    struct Queue {
        std::vector<Entry> entries;
        std::size_t first = 0;

        std::int64_t size() const { return static_cast<std::int64_t>(entries.size() - first); }
        void pop();
    };

    // Handles the next event and returns its time; nothing in a deadlock.
    std::optional<std::int64_t> advance();
    std::int64_t post();
    void start(int unit, std::int64_t time);

    static constexpr std::int64_t never = INT64_MAX;

    std::int64_t depth_;
    std::int64_t now_ = 0;
    std::array<std::int64_t, unit_count> busy_{}, free_{}, complete_{}, ready_ = {never, never, never, never, never};
    std::array<Queue, unit_count> queues_;
    std::array<std::optional<Blocked>, unit_count> blocked_;
    std::array<std::int64_t, semaphore_count> semaphores_{};
    std::vector<Post> posts_;  // a heap, the earliest in front
};

class TaintMap {
public:
    TaintMap(std::int64_t spad, std::int64_t acc)
        : spad_(static_cast<std::size_t>(spad)), acc_(static_cast<std::size_t>(acc)) {}

    // False if a copy reads what is tainted.
    bool apply(const TaintRule& rule, const std::int64_t* counters);

private:
    bool is_tainted(const std::vector<Operand>& sources, const std::int64_t* counters) const;
    void set(const Operand& operand, const std::int64_t* counters, bool tainted);
    std::uint8_t* at(const Operand& operand, const std::int64_t* counters) const;

    Bytes spad_, acc_;
};

}  // namespace sta
