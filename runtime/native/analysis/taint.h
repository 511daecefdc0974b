// The walk through a run that finds where attention scores go. See runtime/analysis/taint.py, which defines it, and words the
// errors.

#pragma once

#include <cstdint>
#include <vector>

#include "machine/memory.h"
#include "program/program.h"

namespace sta {

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

// Whether no copy of a run reads attention scores.
bool scores_stay_on_chip(const Program& program, const Program::Look& look);

}  // namespace sta
