// The timing model: how long a run takes, and with a record when each instruction starts and ends. See
// runtime/timing.py and runtime/analysis/schedule.py, which define it, and word the errors.

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "program/program.h"

namespace sta {

struct Timing {
    std::int64_t cycles = 0;
    std::vector<std::int64_t> busy;  // by unit
};

// The columns of runtime/analysis/schedule.py's Schedule, which says what they are.
struct Schedule {
    std::vector<std::int64_t> pc, unit, ready, entered, start, end, complete, order;
};

// The units with their queues, and the semaphores.
class Queues {
public:
    // Keeps what happens in a schedule, where one is given.
    explicit Queues(const MachineDescription& machine, Schedule* schedule = nullptr);

    // The sequencer issues instructions that no unit takes.
    void issue(std::int64_t instructions) { now_ += instructions; }
    // Puts an instruction into its unit's queue; false in a deadlock.
    bool enter(int pc, const Job& job, std::int64_t busy);
    // Waits until all queues are empty and all results complete; false in a deadlock.
    bool drain(int pc);

    Timing timing() const { return {now_, busy_}; }

private:
    struct Entry {
        std::int64_t time;
        const Job* job;
        std::int64_t busy;
        std::size_t row;  // of the schedule
    };
    struct Post {
        std::int64_t time;
        Semaphores semaphores;
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
    // Adds a row to the schedule and returns its number.
    std::size_t add_row(int pc, int unit, std::int64_t ready, std::int64_t entered);

    static constexpr std::int64_t never = INT64_MAX;

    std::int64_t depth_;
    Schedule* schedule_;
    std::int64_t now_ = 0;
    std::vector<std::int64_t> busy_, free_, complete_, ready_;  // by unit
    std::vector<Queue> queues_;
    std::vector<std::optional<Blocked>> blocked_;
    std::array<std::int64_t, most_semaphores> semaphores_{};
    std::vector<Post> posts_;  // a heap, the earliest in front
};

// How long a run takes; nothing if it ends in a deadlock.
std::optional<Timing> simulate(const Program& program, const Program::Look& look);

// The same, with a record.
std::optional<Schedule> record(const Program& program, const Program::Look& look);

}  // namespace sta
