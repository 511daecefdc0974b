#include "analysis/taint.h"

#include <cstring>

namespace sta {

bool TaintMap::apply(const TaintRule& rule, const std::int64_t* counters) {
    const bool tainted = rule.always || (!rule.never && is_tainted(rule.sources, counters));
    if (rule.transfers && tainted) return false;
    for (const TaintRule::Result& result : rule.results) set(result.operand, counters, tainted && !result.may_leave);
    return true;
}

bool TaintMap::is_tainted(const std::vector<Operand>& sources, const std::int64_t* counters) const {
    for (const Operand& source : sources) {
        const std::uint8_t* bytes = at(source, counters);
        const std::int64_t stride = source.stride.at(counters);
        for (std::int64_t row = 0; row < source.rows; ++row) {
            if (std::memchr(bytes + row * stride, 1, static_cast<std::size_t>(source.row_bytes))) return true;
        }
    }
    return false;
}

void TaintMap::set(const Operand& operand, const std::int64_t* counters, bool tainted) {
    std::uint8_t* bytes = at(operand, counters);
    const std::int64_t stride = operand.stride.at(counters);
    for (std::int64_t row = 0; row < operand.rows; ++row) {
        std::memset(bytes + row * stride, tainted, static_cast<std::size_t>(operand.row_bytes));
    }
}

std::uint8_t* TaintMap::at(const Operand& operand, const std::int64_t* counters) const {
    return (operand.space == Space::spad ? spad_ : acc_).data() + operand.address.at(counters);
}

bool scores_stay_on_chip(const Program& program, const Program::Look& look) {
    TaintMap taint(program.runs_on().spad, program.runs_on().acc);
    return program.follow(look, [&](int pc, const std::int64_t* counters, std::int64_t) {
        return !program.job(pc) || taint.apply(program.taint_rule(pc), counters);
    });
}

}  // namespace sta
