// sync: waits and posts; there is nothing to do.

#include "instructions/instruction.h"

namespace sta {
namespace {

std::vector<Extent> extents(const InstructionDescription&) {
    return {};
}

std::unique_ptr<DecodedInstruction> make(const InstructionDescription&, Shared&) {
    return nullptr;
}

const InstructionType type{"sync", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
