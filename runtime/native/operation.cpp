#include "operation.h"

#include <algorithm>

namespace sta {
namespace {

// Small programs may keep everything; large ones as much as their weights are, once more.
constexpr std::int64_t smallest_budget = 16 << 20;

}  // namespace

Shared::Shared(const ProgramDescription& program, const Kernels& kernels)
    : kernels(kernels),
      budget_(std::max(smallest_budget, program.constants_size)),
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

Element element_of(const InstructionDescription& instruction, const std::string& field) {
    static const std::map<std::string, Element> elements = {
        {"none", Element::none}, {"s8", Element::s8},   {"u8", Element::u8},        {"s16", Element::s16},
        {"s32", Element::s32},   {"acc", Element::s32}, {"acc_wide", Element::wide},
    };
    const auto found = elements.find(instruction.choice(field));
    if (found == elements.end()) throw BadDescription("unknown element type " + instruction.choice(field));
    return found->second;
}

int element_bytes(Element element) {
    switch (element) {
        case Element::none: return 0;
        case Element::s8:
        case Element::u8: return 1;
        case Element::s16: return 2;
        default: return 4;
    }
}

std::unique_ptr<Operation> make_sync(const InstructionDescription&, Shared&) {
    return nullptr;
}

}  // namespace sta
