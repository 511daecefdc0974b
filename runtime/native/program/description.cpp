#include "program/description.h"

#include "instructions/instruction.h"

namespace sta {
namespace {

Role role_of(const std::string& name) {
    static const std::map<std::string, Role> of_sequencer = {
        {"fence", Role::fence}, {"loop", Role::loop}, {"end", Role::end}, {"halt", Role::halt}};
    const auto found = of_sequencer.find(name);
    return found == of_sequencer.end() ? Role::unit : found->second;
}

}  // namespace

Space space_called(const std::string& name) {
    static const std::map<std::string, Space> spaces = {
        {"spad", Space::spad},           {"wbuf", Space::wbuf},         {"acc", Space::acc},
        {"constants", Space::constants}, {"writable", Space::writable},
    };
    const auto found = spaces.find(name);
    if (found == spaces.end()) throw BadDescription("unknown memory " + name);
    return found->second;
}

InstructionDescription::InstructionDescription(int its_pc, const std::string& its_name)
    : pc(its_pc),
      name(its_name),
      role(role_of(its_name)),
      type(role == Role::unit ? instruction_called(its_name) : nullptr) {
    if (role == Role::unit && !type) refuse("there is no such instruction");
}

const Operand* InstructionDescription::optional_operand(const std::string& role_in_it) const {
    for (const NamedOperand& operand : operands) {
        if (operand.name == role_in_it) return &operand;
    }
    return nullptr;
}

const Operand& InstructionDescription::operand(const std::string& role_in_it) const {
    const Operand* found = optional_operand(role_in_it);
    if (!found) refuse("operand '" + role_in_it + "' is missing");
    return *found;
}

void InstructionDescription::refuse(const std::string& reason) const {
    throw BadDescription("instruction " + std::to_string(pc) + " (" + name + "): " + reason);
}

std::int64_t MachineDescription::size_of(Space space) const {
    switch (space) {
        case Space::spad: return spad;
        case Space::wbuf: return wbuf;
        case Space::acc: return acc;
        case Space::constants: return constants_size;
        default: return writable;
    }
}

}  // namespace sta
