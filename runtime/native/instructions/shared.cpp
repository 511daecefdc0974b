#include "instructions/shared.h"

#include <algorithm>
#include <string>

namespace sta {
namespace {

// Small programs may keep everything; large ones as much as their weights are, once more.
constexpr std::int64_t smallest_budget = 16 << 20;

}  // namespace

Shared::Shared(const ProgramDescription& program, const Kernels& family)
    : kernels(family),
      tile_rows(program.machine.tile_rows),
      budget_(std::max(smallest_budget, program.machine.constants_size)),
      exponentials_(program.exponentials) {
    // A gather of 32 bits reads beyond the last one.
    for (auto& [bits, results] : exponentials_) results.resize(results.size() + slack_bytes);
}

Exponentials Shared::exponentials(int bits) const {
    const auto found = exponentials_.find(bits);
    if (found == exponentials_.end()) throw BadDescription("no exponentials of " + std::to_string(bits) + " bits");
    const int bytes = bits / 8;
    return {found->second.data(), bytes, static_cast<int>((found->second.size() - slack_bytes) / bytes)};
}

}  // namespace sta
