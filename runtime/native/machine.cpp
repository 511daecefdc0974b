#include "machine.h"

#include <algorithm>

namespace sta {

bool Tile::apart_from(const Tile& other) const {
    const auto end = [](const Tile& tile) { return tile.bytes + (tile.rows - 1) * tile.stride + tile.row_bytes; };
    return end(*this) <= other.bytes || end(other) <= bytes;
}

bool Tile::may_replace(const Tile& source, bool same_element_size) const {
    return (same_element_size && bytes == source.bytes && stride == source.stride) || apart_from(source);
}

Machine::Machine(const ProgramDescription& program, const Kernels& kernels, int threads)
    : kernels(kernels),
      spad(static_cast<std::size_t>(program.spad)),
      acc(static_cast<std::size_t>(program.acc)),
      writable(static_cast<std::size_t>(program.writable)),
      wbuf(static_cast<std::size_t>(program.wbuf)),
      // Nothing that writes takes an operand in the constants.
      memories{spad.data(), nullptr, acc.data(), const_cast<std::uint8_t*>(program.constants), writable.data()},
      constants_size(program.constants_size),
      sums(static_cast<std::size_t>(program.tile_rows)),
      squares(static_cast<std::size_t>(program.tile_rows)),
      team(threads) {}

void Machine::reset(std::uint8_t poison, bool may_go_ahead) {
    for (const Bytes* memory : {&spad, &acc, &writable}) std::memset(memory->data(), poison, memory->size());
    wbuf.fill(poison);
    std::fill(sums.begin(), sums.end(), 0);
    std::fill(squares.begin(), squares.end(), 0);
    counters.fill(0);
    position = 0;
    goes_ahead = may_go_ahead && team.threads() > 1;
    has_gone_wrong = false;
}

}  // namespace sta
