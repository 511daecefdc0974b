// The parameter blocks in the weight buffer; see spec/parameters.py.

#pragma once

#include <cstdint>
#include <memory>

#include "kernels.h"

namespace sta {

// Each returns the parameters in a block, or nothing if a value is outside its field.
std::unique_ptr<MapParameters> read_map_parameters(const std::uint8_t* block, int columns);
std::unique_ptr<NormParameters> read_norm_parameters(const std::uint8_t* block, int columns);
bool read_softmax_parameters(const std::uint8_t* block, Scale& scale);

bool is_scale(Scale scale);

}  // namespace sta
