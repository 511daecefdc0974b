// The state of a machine that runs a program, and the tools that instructions use on it.

#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "machine/memory.h"
#include "machine/threads.h"
#include "program/description.h"

namespace sta {

// Bytes for the length of an instruction, kept for the next.
class Scratch {
public:
    std::uint8_t* take(std::size_t size) {
        if (bytes_.size() < size) bytes_ = Bytes(size);
        return bytes_.data();
    }

private:
    Bytes bytes_{0};
};

// A rectangle of memory, found.
struct Tile {
    std::uint8_t* bytes;
    std::int64_t stride;
    std::int64_t rows, row_bytes;

    // Whether no byte of one lies between the first and the last of the other.
    bool apart_from(const Tile& other) const;
    // Whether a result may be written here element by element while `source` is read: they are apart, or each
    // element of the result replaces the one it is made from.
    bool may_replace(const Tile& source, bool same_element_size) const;

    // A tile of the same size, whose rows lie next to each other.
    Tile aside(Scratch& scratch) const;
    void copy_to(const Tile& other) const;

    SharedRows read_by_rows() const { return {bytes, stride, row_bytes, false}; }
    SharedRows written_by_rows() const { return {bytes, stride, row_bytes, true}; }
    SharedRows read_as_a_whole() const { return {bytes, 0, (rows - 1) * stride + row_bytes, false}; }
};

// Where the vector unit adds up rows, and with what; a job's own copy of that.
struct Statistics {
    void (*of_row)(const std::uint8_t*, int, std::int64_t&, std::int64_t&);
    std::int64_t *sums, *squares;

    // The sums of squares lie as the others do.
    SharedRows written_by_rows() const { return {sums, sizeof(*sums), sizeof(*sums), true}; }
};

struct Machine {
    // Of programs with so many loops inside each other.
    Machine(const MachineDescription& description, int loop_depth, const Kernels& family, int threads);

    // Overwrites everything writable with a byte, and starts again; nothing may be going on. Threads stay together at
    // one instruction unless they may go ahead.
    void reset(std::uint8_t poison, bool may_go_ahead);

    // A rectangle in a memory other than wbuf.
    Tile tile(const Operand& operand) const {
        const int space = static_cast<int>(operand.space);
        return {memories[space] + operand.address.at(counters.data()), operand.stride.at(counters.data()), operand.rows,
                operand.row_bytes};
    }

    Statistics statistics() { return {kernels.statistics_of_row, sums.data(), squares.data()}; }

    // The bytes of an operand in wbuf, whose rows lie next to each other.
    View weights(const Operand& operand) {
        return wbuf.read(operand.address.at(counters.data()), operand.rows * operand.row_bytes);
    }

    // Waits for other threads; false if an instruction that ran ahead has failed, so that what is in the memories is not
    // what the program leaves there.
    bool settle() {
        if (!team.wait()) has_gone_wrong = true;
        return !has_gone_wrong;
    }

    const Kernels& kernels;
    bool goes_ahead = false;  // threads may be at different instructions
    bool has_gone_wrong = false;
    Bytes spad, acc, writable;
    WeightBuffer wbuf;
    std::array<std::uint8_t*, space_count> memories;  // by Space; none for wbuf
    std::vector<std::int64_t> counters;     // of the loops, outermost first
    std::size_t position = 0;                // of the next instruction
    std::int64_t executed = 0;               // instructions of units and fences
    std::vector<std::int64_t> sums, squares;  // the vector unit's row statistics
    Scratch activations, laid_out, column_sums, quads, results, copies, rows;
    Team team;  // ends before what it works on
};

}  // namespace sta
