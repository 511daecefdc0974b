// The kernels of the AVX2 family that are its own; see kernels.h.

#pragma once

#include "kernels/kernels.h"

#define STA_AVX2 "avx2"

namespace sta::avx2 {

constexpr Layout layout{2, 8};

bool multiply_rows(const Product& product, int first, int last);

}  // namespace sta::avx2
