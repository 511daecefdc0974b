// Which instruction each cycle of a run is charged to, and what that sums to. See runtime/analysis/cycle_attribution.py and
// runtime/analysis/profile.py, which define it.

#pragma once

#include <cstdint>
#include <vector>

#include "analysis/recorded_run.h"

namespace sta {

// Consecutive intervals of a run's cycles, each charged to a row; the first starts at 0.
struct Charges {
    std::vector<std::int64_t> end, row;
    std::vector<std::uint8_t> issued;  // charged because the sequencer issues the row
};

// `products` is the number of the product unit.
Charges attribute(const Run& run, int products);

// Cycles of each module; see runtime/analysis/profile.py's ModuleCycles.
struct ModuleCycles {
    ModuleCycles(std::size_t modules, std::size_t units);

    std::vector<std::int64_t> working;
    std::vector<std::vector<std::int64_t>> idle;              // by cause: a unit, or the sequencer
    std::vector<std::vector<std::int64_t>> busy, concurrent;  // by unit
};

// `module_of_pc` has a module, below `modules`, for each instruction.
ModuleCycles cycles_of_modules(const Run& run, int products, const Charges& charges, const Column& module_of_pc,
                               std::size_t modules);

}  // namespace sta
