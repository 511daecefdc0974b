// mm: the product of a tile.

#include "operation.h"
#include "weights.h"

namespace sta {
namespace {

// Products smaller than this are done before another thread has begun.
constexpr std::int64_t smallest_shared = 1 << 17;
// A multiple of the rows that kernels work on at a time.
constexpr int row_grain = 24;

class Multiply : public Operation {
public:
    Multiply(const InstructionDescription& instruction, Shared& shared)
        : a_(instruction.operand("a")),
          b_(instruction.operand("b")),
          acc_(instruction.operand("acc")),
          rows_(instruction.number("rows")),
          columns_(instruction.number("columns")),
          depth_(instruction.number("depth")),
          a_signed_(instruction.choice("a_type") == "s8"),
          a_wide_(instruction.number("a_wide") != 0),
          accumulate_(instruction.number("accumulate") != 0),
          layout_(shared.kernels.layout) {}

    bool execute(Machine& machine) const override {
        const LaidOutWeights b = laid_out(machine);
        if (!b.values) return false;
        const Tile a = activations(machine), acc = machine.tile(acc_);
        if (multiply(machine, a, b, acc, accumulate_ ? Result::add : Result::replace)) return true;
        multiply(machine, a, b, acc, Result::take_back);
        return false;
    }

protected:
    // No values: the packed weights are malformed.
    virtual LaidOutWeights laid_out(Machine& machine) const = 0;

    std::size_t laid_out_size() const { return layout_.size(columns_, depth_); }
    std::size_t column_sums_size() const { return 4 * static_cast<std::size_t>(layout_.columns(columns_)); }

    LaidOutWeights lay_out(Machine& machine, const Matrix& matrix) const {
        auto* values = reinterpret_cast<std::int8_t*>(machine.laid_out.take(laid_out_size()));
        auto* sums = reinterpret_cast<std::int32_t*>(machine.column_sums.take(column_sums_size()));
        machine.kernels.lay_out(matrix, values, sums);
        return {values, sums, false};
    }

    Operand a_, b_, acc_;
    int rows_, columns_, depth_;
    bool a_signed_, a_wide_, accumulate_;
    Layout layout_;

private:
    // Rows of activations whose elements lie next to each other.
    Tile activations(Machine& machine) const {
        const Tile a = machine.tile(a_);
        if (!a_wide_) return a;
        const Tile plane{machine.activations.take(static_cast<std::size_t>(rows_) * depth_), depth_, rows_, depth_};
        for (int row = 0; row < rows_; ++row) {
            machine.kernels.every_other_byte(a.bytes + row * a.stride, plane.bytes + row * plane.stride, depth_);
        }
        return plane;
    }

    bool multiply(Machine& machine, const Tile& a, const LaidOutWeights& b, const Tile& acc, Result result) const {
        const auto size = static_cast<std::int64_t>(laid_out_size());
        Product product{};
        product.a = a.bytes;
        product.a_stride = a.stride;
        product.a_signed = a_signed_;
        product.b = b.values;
        product.column_sums = b.column_sums;
        product.acc = acc.bytes;
        product.acc_stride = acc.stride;
        product.columns = columns_;
        product.depth = depth_;
        product.result = result;
        product.next = b.is_kept ? b.values + size : nullptr;
        product.next_bytes = b.is_kept ? size : 0;
        const std::int64_t macs = std::int64_t{rows_} * columns_ * depth_;
        if (macs < smallest_shared) return machine.kernels.product(product, 0, rows_);
        std::atomic<bool> fits{true};
        machine.team.share(rows_, row_grain, [&](int first, int last) {
            if (!machine.kernels.product(product, first, last)) fits = false;
        });
        return fits;
    }
};

// b is a matrix of activations.
class MultiplyActivations : public Multiply {
public:
    MultiplyActivations(const InstructionDescription& instruction, Shared& shared)
        : Multiply(instruction, shared), transposed_(instruction.number("b_transposed") != 0) {}

protected:
    LaidOutWeights laid_out(Machine& machine) const override {
        const Tile b = machine.tile(b_);
        const std::int64_t column_stride = transposed_ ? 1 : b.stride, depth_stride = transposed_ ? b.stride : 1;
        return lay_out(machine, Matrix{b.bytes, column_stride, depth_stride, columns_, depth_});
    }

private:
    bool transposed_;
};

Encoding encoding_of(const std::string& name) {
    if (name == "dense") return Encoding::dense;
    if (name == "bitmap") return Encoding::bitmap;
    if (name == "index") return Encoding::index;
    throw BadDescription("unknown encoding " + name);
}

// b is a packed block of weights.
class MultiplyWeights : public Multiply {
public:
    MultiplyWeights(const InstructionDescription& instruction, Shared& shared)
        : Multiply(instruction, shared),
          shape_{columns_, depth_, instruction.number("n"), instruction.number("m"),
                 encoding_of(instruction.choice("encoding"))},
          cache_(shared.weights({columns_, depth_, shape_.n, shape_.m, instruction.choice("encoding")})),
          arena_(shared.arena) {
        if (packed_size(shape_) != b_.rows * b_.row_bytes) throw BadDescription("a packed block of another size");
    }

protected:
    LaidOutWeights laid_out(Machine& machine) const override {
        const View block = machine.weights(b_);
        if (!block.constant) return derive(machine, block.bytes);
        const LaidOutWeights* known = cache_.find(block.bytes);
        if (known) return *known;
        const LaidOutWeights derived = derive(machine, block.bytes);
        const std::size_t size = laid_out_size() + column_sums_size();
        if (!derived.values || !cache_.has_room(static_cast<std::int64_t>(size))) return derived;
        std::uint8_t* kept = arena_.take(size);
        std::memcpy(kept, derived.values, laid_out_size());
        std::memcpy(kept + laid_out_size(), derived.column_sums, column_sums_size());
        const LaidOutWeights weights{reinterpret_cast<const std::int8_t*>(kept),
                                     reinterpret_cast<const std::int32_t*>(kept + laid_out_size()), true};
        return *cache_.keep(block.bytes, std::make_unique<LaidOutWeights>(weights), static_cast<std::int64_t>(size));
    }

private:
    LaidOutWeights derive(Machine& machine, const std::uint8_t* block) const {
        const std::uint8_t* dense = block;
        if (shape_.encoding != Encoding::dense) {
            std::uint8_t* weights = machine.results.take(static_cast<std::size_t>(columns_) * depth_);
            if (!unpack(block, shape_, weights)) return {nullptr, nullptr, false};
            dense = weights;
        }
        return lay_out(machine, Matrix{dense, depth_, 1, columns_, depth_});
    }

    PackedShape shape_;
    WeightCache& cache_;
    Arena& arena_;
};

}  // namespace

std::unique_ptr<Operation> make_mm(const InstructionDescription& instruction, Shared& shared) {
    if (instruction.choice("b_space") == "spad") return std::make_unique<MultiplyActivations>(instruction, shared);
    return std::make_unique<MultiplyWeights>(instruction, shared);
}

}  // namespace sta
