// A run that has been recorded, as the walks over it take it.

#pragma once

#include <cstdint>
#include <vector>

#include "program/program.h"

namespace sta {

// One column of a schedule.
struct Column {
    const std::int64_t* values = nullptr;
    std::size_t size = 0;

    std::int64_t operator[](std::size_t row) const { return values[row]; }
};

class Run {
public:
    // The columns of a schedule of the program; BadDescription if they do not fit it, or each other.
    struct Columns {
        Column pc, unit, ready, entered, start, end, complete, order;
    };
    Run(const Program& program, const Columns& columns);

    std::size_t size() const { return pc.size; }
    std::size_t units() const { return rows_of_unit.size(); }
    bool is_fence(std::size_t row) const { return unit[row] == program.sequencer(); }
    // Of a row of a unit.
    const Job& job(std::size_t row) const { return *program.job(static_cast<int>(pc[row])); }

    const Program& program;
    Column pc, unit, ready, entered, start, end, complete, order;
    std::vector<std::int32_t> position;                   // earlier rows of the same unit
    std::vector<std::vector<std::int32_t>> rows_of_unit;  // in program order
};

// Which post a wait took, as rows of the two instructions.
struct Handover {
    int semaphore;
    std::int32_t post, wait;
};

// See runtime/analysis/schedule.py; in the same order.
std::vector<Handover> handovers(const Run& run);

}  // namespace sta
