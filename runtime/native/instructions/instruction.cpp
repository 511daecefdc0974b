#include "instructions/instruction.h"

#include <map>

namespace sta {
namespace {

// Made when the first file adds to it, whichever that is.
std::map<std::string, const InstructionType*>& table() {
    static std::map<std::string, const InstructionType*> types;
    return types;
}

}  // namespace

Registration::Registration(const InstructionType& type) {
    table().emplace(type.name, &type);
}

const InstructionType* instruction_called(const std::string& name) {
    const auto found = table().find(name);
    return found == table().end() ? nullptr : found->second;
}

std::vector<std::string> instruction_names() {
    std::vector<std::string> names;
    for (const auto& [name, type] : table()) names.push_back(name);
    return names;
}

int size_field(const InstructionDescription& instruction, const std::string& field, std::int64_t largest) {
    const int value = instruction.number(field);
    if (value < 1 || value > largest) instruction.refuse("'" + field + "' is out of range");
    return value;
}

}  // namespace sta
