// What a description must keep to, so that no kernel leaves a memory and no walk leaves the program. The validator has
// checked most of this before; that it holds here does not depend on it.

#pragma once

#include "program/description.h"

namespace sta {

// Throws BadDescription.
void check_program(const ProgramDescription& program);

}  // namespace sta
