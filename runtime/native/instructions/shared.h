// What the instructions of one program share.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <typeindex>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "machine/cache.h"
#include "machine/memory.h"
#include "program/description.h"

namespace sta {

class Shared {
public:
    Shared(const ProgramDescription& program, const Kernels& family);

    // Where an instruction keeps what it derives from blocks of constants: one cache for each kind of result, and for
    // each shape of the blocks.
    template <typename Derived>
    Cache<Derived>& cache(std::vector<int> shape) {
        std::shared_ptr<void>& kept = caches_[{typeid(Derived), std::move(shape)}];
        if (!kept) kept = std::make_shared<Cache<Derived>>(budget_);
        return *static_cast<Cache<Derived>*>(kept.get());
    }

    // The powers of two with so many bits.
    Exponentials exponentials(int bits) const;

    const Kernels& kernels;
    const int tile_rows;
    Arena arena;

private:
    Budget budget_;
    std::map<std::pair<std::type_index, std::vector<int>>, std::shared_ptr<void>> caches_;
    std::map<int, std::vector<std::uint8_t>> exponentials_;
};

}  // namespace sta
