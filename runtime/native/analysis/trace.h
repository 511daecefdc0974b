// The text of a trace. See runtime/analysis/trace.py, which defines it.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/recorded_run.h"

namespace sta {

// Names are JSON strings without their quotes. Times are nanoseconds of all rows, at most `latest_nanoseconds`.
struct TraceDescription {
    std::vector<std::string> begins, ends;  // of each instruction's slice: what is in front of its time, and of its stall
    std::vector<std::string> modules;       // names, with a space behind those that are not empty
    Column module_of_pc;
    Column start, end, leaves, idle;           // of the units' slices
    Column issue_begins, issue_ends, stall_ends;  // of the sequencer's
    std::vector<std::string> reasons;       // of stalls, by unit and for fences
    std::size_t shown = 0;                  // instructions of units, in the order of their starts
    std::size_t issued = 0;                 // rows of the sequencer
};

constexpr std::int64_t latest_nanoseconds = 1'000'000'000'000'000;

// Calls write(text) with one part after the other of the events of the units and the sequencer, each event behind a
// comma and a line end.
void write_trace(const Run& run, const TraceDescription& trace, const std::function<void(std::string_view)>& write);

}  // namespace sta
