// What an instruction touches: the rectangles that its kernels read and write, given its sizes and choices.
//
// spec/instructions is the definition. This is what the kernels rely on, and a description that says anything else is
// refused: so no kernel leaves a rectangle that has been checked, whoever made the description.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "description.h"

namespace sta {

// How the rows of an operand must lie.
enum class Rows {
    anyhow,
    apart,     // they are written, by several threads perhaps
    adjacent,  // the kernels take them to follow each other
};

struct Extent {
    std::string name;
    std::vector<Space> spaces;  // one of which it lies in
    std::int64_t rows, row_bytes;
    Rows lie;
};

// Throws BadDescription for sizes that no instruction has, and for an instruction that does not exist.
std::vector<Extent> extents_of(const InstructionDescription& instruction);

}  // namespace sta
