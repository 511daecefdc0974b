// What Python tells of a program, piece by piece.

#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bindings/bindings.h"

namespace sta {

using Terms = std::vector<std::pair<int, std::int64_t>>;
using AffineValue = std::pair<std::int64_t, Terms>;

inline Affine affine_from(const AffineValue& value) {
    return {value.first, value.second};
}

// Builds a program from what Python knows of it.
class Builder {
public:
    Builder(const pybind11::dict& sizes, Buffer constants, int tile_rows, int units, std::int64_t queue_depth,
            const std::string& family)
        : constants_(std::move(constants)) {
        const auto size = [&](const char* name) { return sizes[name].cast<std::int64_t>(); };
        MachineDescription& machine = description_.machine;
        machine.spad = size("spad");
        machine.wbuf = size("wbuf");
        machine.acc = size("acc");
        machine.writable = size("writable");
        machine.constants = constants_.data();
        machine.constants_size = constants_.size();
        machine.tile_rows = tile_rows;
        machine.units = units;
        machine.queue_depth = queue_depth;
        description_.family = family;
    }

    void exponentials(int bits, const pybind11::bytes& results) {
        const std::string text = results;
        description_.exponentials[bits] = std::vector<std::uint8_t>(text.begin(), text.end());
    }

    void instruction(int pc, const std::string& name, const std::vector<std::int64_t>& counts, int partner) {
        InstructionDescription& added = description_.instructions.emplace_back(pc, name);
        added.counts = counts;
        added.partner = partner;
    }

    // These belong to the instruction added last.
    void number(const std::string& name, std::int64_t value) { last().numbers[name] = value; }
    void choice(const std::string& name, const std::string& value) { last().choices[name] = value; }
    void in_register(const std::string& name, const AffineValue& value) { last().registers[name] = affine_from(value); }
    void operand(const std::string& name, const std::string& space, const AffineValue& address,
                 const AffineValue& stride, std::int64_t rows, std::int64_t row_bytes, bool writes) {
        last().operands.push_back(
            {{space_called(space), affine_from(address), affine_from(stride), rows, row_bytes}, name, writes});
    }

    void job(int unit, std::int64_t busy, std::int64_t latency, Semaphores waits, Semaphores posts) {
        Job& told = last().job;
        told.unit = unit;
        told.busy = busy;
        told.latency = latency;
        told.waits = waits;
        told.posts = posts;
    }
    void one_piece(const AffineValue& stride, std::int64_t row_bytes, std::int64_t busy) {
        Job& told = last().job;
        told.may_be_one_piece = true;
        told.stride = affine_from(stride);
        told.row_bytes = row_bytes;
        told.busy_in_one_piece = busy;
    }
    void taint(bool transfers, bool always, bool never) {
        last().taint = {transfers, always, never, {}, {}};
    }
    // Of operands that have been added before.
    void taint_source(const std::string& name) { last().taint.sources.push_back(last().operand(name)); }
    void taint_result(const std::string& name, bool may_leave) {
        last().taint.results.push_back({last().operand(name), may_leave});
    }

    const ProgramDescription& description() const { return description_; }
    const Buffer& constants() const { return constants_; }

private:
    InstructionDescription& last() {
        if (description_.instructions.empty()) throw BadDescription("a field of no instruction");
        return description_.instructions.back();
    }

    Buffer constants_;
    ProgramDescription description_;
};

}  // namespace sta
