// What is certain about the order of a run, whatever the durations. See runtime/analysis/happens_before.py, which defines it.

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "analysis/recorded_run.h"

namespace sta {

// For each row a clock: for each unit the number of its instructions, counted from its first, that are complete.
class Clocks {
public:
    Clocks(std::size_t rows, std::size_t units) : units_(units), values_(rows * units) {}

    std::size_t units() const { return units_; }
    std::size_t rows() const { return values_.size() / units_; }
    std::int32_t* operator[](std::size_t row) { return values_.data() + row * units_; }
    const std::int32_t* operator[](std::size_t row) const { return values_.data() + row * units_; }

private:
    std::size_t units_;
    std::vector<std::int32_t> values_;
};

// For each row what is certain to be complete when it starts; nothing if several units post to a semaphore, or several
// wait for one, which only runtime/analysis/happens_before.py handles.
std::optional<Clocks> clocks_before(const Run& run);

}  // namespace sta
