// Where code for some kind of processor begins and ends, and what must have been included before it begins.
//
// Code in between is compiled for that processor, and so is everything that is included there: the standard library and
// `kernels.h` must not be, because all files share their functions.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/kernels.h"

#define STA_PRAGMA(tokens) _Pragma(#tokens)
#if defined(__clang__)
#define STA_BEGIN_TARGET(features) STA_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define STA_END_TARGET STA_PRAGMA(clang attribute pop)
#else
#define STA_BEGIN_TARGET(features) STA_PRAGMA(GCC push_options) STA_PRAGMA(GCC target features)
#define STA_END_TARGET STA_PRAGMA(GCC pop_options)
#endif
