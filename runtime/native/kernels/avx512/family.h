// The kernels of the AVX-512 family; see kernels.h.

#pragma once

#include "kernels/kernels.h"

#define STA_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#define STA_AVX512_VBMI STA_AVX512 ",avx512vbmi"

namespace sta::avx512 {

constexpr Layout layout{4, 16};

void lay_out(const Matrix& matrix, std::int8_t* laid_out, std::int32_t* column_sums);
void copy_every_other_byte(const std::uint8_t* source, std::uint8_t* destination, int count);
bool multiply_rows(const Product& product, int first, int last);
bool map_rows(const Map& map, int first, int last);
bool softmax_rows(const Softmax& softmax, int first, int last);
void norm_rows(const Norm& norm, int first, int last);
void rotate_rows(const Rotation& rotation, int first, int last);
void statistics_of_row(const std::uint8_t* row, int columns, std::int64_t& sum, std::int64_t& squares);

extern const SparseKernels sparse_kernels;

}  // namespace sta::avx512
