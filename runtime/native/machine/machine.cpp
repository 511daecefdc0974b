#include "machine/machine.h"

#include <algorithm>

namespace sta {

bool Tile::apart_from(const Tile& other) const {
    const auto end = [](const Tile& tile) { return tile.bytes + (tile.rows - 1) * tile.stride + tile.row_bytes; };
    return end(*this) <= other.bytes || end(other) <= bytes;
}

bool Tile::may_replace(const Tile& source, bool same_element_size) const {
    return (same_element_size && bytes == source.bytes && stride == source.stride) || apart_from(source);
}

Tile Tile::aside(Scratch& scratch) const {
    return {scratch.take(static_cast<std::size_t>(rows * row_bytes)), row_bytes, rows, row_bytes};
}

void Tile::copy_to(const Tile& other) const {
    for (std::int64_t row = 0; row < rows; ++row) {
        std::memcpy(other.bytes + row * other.stride, bytes + row * stride, static_cast<std::size_t>(row_bytes));
    }
}

Machine::Machine(const MachineDescription& description, int loop_depth, const Kernels& family, int threads)
    : kernels(family),
      spad(static_cast<std::size_t>(description.spad)),
      acc(static_cast<std::size_t>(description.acc)),
      writable(static_cast<std::size_t>(description.writable)),
      wbuf(static_cast<std::size_t>(description.wbuf)),
      // Nothing that writes takes an operand in the constants.
      memories{spad.data(), nullptr, acc.data(), const_cast<std::uint8_t*>(description.constants), writable.data()},
      counters(static_cast<std::size_t>(loop_depth)),
      sums(static_cast<std::size_t>(description.tile_rows)),
      squares(static_cast<std::size_t>(description.tile_rows)),
      team(threads) {}

void Machine::reset(std::uint8_t poison, bool may_go_ahead) {
    for (const Bytes* memory : {&spad, &acc, &writable}) std::memset(memory->data(), poison, memory->size());
    wbuf.fill(poison);
    std::fill(sums.begin(), sums.end(), 0);
    std::fill(squares.begin(), squares.end(), 0);
    std::fill(counters.begin(), counters.end(), 0);
    position = 0;
    executed = 0;
    goes_ahead = may_go_ahead && team.threads() > 1;
    has_gone_wrong = false;
}

}  // namespace sta
