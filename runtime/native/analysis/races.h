// The race check over a recorded run. See runtime/analysis/races.py, which defines it, and words what is found.

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "analysis/happens_before.h"
#include "analysis/recorded_run.h"

namespace sta {

// An access of a row conflicts with an earlier row that is not certain to be complete.
struct FoundRace {
    std::int64_t earlier;
    bool earlier_writes;
    std::int64_t later;
    int access;  // of the later row, its number among Program::accesses
};

struct RaceCheck {
    std::vector<FoundRace> found;  // one for each pair of instructions and memory, in the order of the run
    std::int64_t instructions = 0, accesses = 0, bytes = 0;
};

// Stops at a row with which `limit` races are found. Nothing if a run's tiles are too many to be kept.
std::optional<RaceCheck> check_races(const Run& run, const Clocks& clocks, std::size_t limit, const Program::Look& look);

}  // namespace sta
