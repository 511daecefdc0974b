// An instruction, decoded: what the program does with it.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "cache.h"
#include "description.h"
#include "kernels.h"
#include "machine.h"
#include "memory.h"

namespace sta {

class Operation {
public:
    virtual ~Operation() = default;
    // False if the instruction breaks a rule of the machine with the data it meets; then it has written nothing that
    // matters to another attempt.
    virtual bool execute(Machine& machine) const = 0;
    // Whether it may begin while other threads are at instructions before it; then it waits itself, where it has to.
    virtual bool runs_ahead() const { return false; }
};

// In the arena of the program, or in a machine's scratch.
struct LaidOutWeights {
    const std::int8_t* values;  // null: the packed weights are malformed
    std::size_t size;
    const std::int32_t* column_sums;
    const std::uint16_t* quads;  // null: not laid out as sparse weights
    bool is_kept;                // in the arena, where what is used next lies behind it

    void read_ahead() const { __builtin_prefetch(column_sums); }
};

using WeightCache = Cache<LaidOutWeights>;
using MapCache = Cache<MapParameters>;
using NormCache = Cache<NormParameters>;

// What the operations of one program share.
class Shared {
public:
    Shared(const ProgramDescription& program, const Kernels& kernels);

    // Columns, depth, N, M, encoding.
    using WeightShape = std::tuple<int, int, int, int, std::string>;

    WeightCache& weights(const WeightShape& shape) { return find(weights_, shape); }
    MapCache& maps(int columns) { return find(maps_, columns); }
    NormCache& norms(int columns) { return find(norms_, columns); }
    Exponentials exponentials(int bits) const;

    const Kernels& kernels;
    Arena arena;

private:
    template <typename Key, typename Kind>
    Kind& find(std::map<Key, std::unique_ptr<Kind>>& caches, const Key& key) {
        std::unique_ptr<Kind>& cache = caches[key];
        if (!cache) cache = std::make_unique<Kind>(budget_);
        return *cache;
    }

    Budget budget_;
    std::map<WeightShape, std::unique_ptr<WeightCache>> weights_;
    std::map<int, std::unique_ptr<MapCache>> maps_;
    std::map<int, std::unique_ptr<NormCache>> norms_;
    std::map<int, std::vector<std::uint8_t>> exponentials_;
};

Element element_of(const InstructionDescription& instruction, const std::string& field);
int element_bytes(Element element);

using Maker = std::unique_ptr<Operation> (*)(const InstructionDescription&, Shared&);

std::unique_ptr<Operation> make_sync(const InstructionDescription&, Shared&);
std::unique_ptr<Operation> make_ld(const InstructionDescription&, Shared&);
std::unique_ptr<Operation> make_st(const InstructionDescription&, Shared&);
std::unique_ptr<Operation> make_gather(const InstructionDescription&, Shared&);
std::unique_ptr<Operation> make_mm(const InstructionDescription&, Shared&);
std::unique_ptr<Operation> make_softmax(const InstructionDescription&, Shared&);
std::unique_ptr<Operation> make_map(const InstructionDescription&, Shared&);
std::unique_ptr<Operation> make_norm(const InstructionDescription&, Shared&);
std::unique_ptr<Operation> make_rescale(const InstructionDescription&, Shared&);

}  // namespace sta
