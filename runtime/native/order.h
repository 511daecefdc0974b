// What is certain about the order of a run, whatever the durations. See runtime/analysis/happens_before.py, which defines it.

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "run.h"

namespace sta {

// For each unit the number of its instructions, counted from its first, that are complete.
using Clock = std::array<std::int32_t, unit_count>;

// For each row what is certain to be complete when it starts; nothing if several units post to a semaphore, or several
// wait for one, which only runtime/analysis/happens_before.py handles.
std::optional<std::vector<Clock>> clocks_before(const Run& run);

}  // namespace sta
