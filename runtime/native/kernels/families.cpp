#include "kernels/kernels.h"

namespace sta {

const std::vector<const Kernels*>& families() {
#if defined(__x86_64__)
    static const std::vector<const Kernels*> all = {&avx512_kernels, &avx2_kernels, &portable_kernels};
#else
    static const std::vector<const Kernels*> all = {&portable_kernels};
#endif
    return all;
}

}  // namespace sta
