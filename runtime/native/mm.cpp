// mm: the product of a tile.

#include <array>

#include "operation.h"
#include "weights.h"

namespace sta {
namespace {

// Products smaller than this are done before another thread has begun.
constexpr std::int64_t smallest_shared = 1 << 17;

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
        if (machine.goes_ahead && run_ahead(machine)) return true;
        if (!machine.settle()) return false;
        const LaidOutWeights b = laid_out(machine);
        if (!b.values) return false;
        const Tile a = activations(machine), acc = machine.tile(acc_);
        const Product product = described(a, b, acc);
        if (multiply(machine, product, accumulate_ ? Result::add : Result::replace)) return true;
        multiply(machine, product, Result::take_back);
        return false;
    }

    // A sum that is added may not fit; what replaces others always does.
    bool runs_ahead() const override { return !a_wide_ && !accumulate_; }

protected:
    // No values: the packed weights are malformed.
    virtual LaidOutWeights laid_out(Machine& machine) const = 0;
    // False if that is not possible; then nothing has happened.
    virtual bool run_ahead(Machine& machine) const = 0;

    std::size_t laid_out_size() const { return layout_.size(columns_, depth_); }
    std::size_t column_sums_size() const { return 4 * static_cast<std::size_t>(layout_.columns(columns_)); }

    LaidOutWeights lay_out(const Kernels& kernels, const Matrix& matrix, Scratch& values_scratch,
                           Scratch& sums_scratch) const {
        auto* values = reinterpret_cast<std::int8_t*>(values_scratch.take(laid_out_size()));
        auto* sums = reinterpret_cast<std::int32_t*>(sums_scratch.take(column_sums_size()));
        kernels.lay_out(matrix, values, sums);
        return {values, laid_out_size(), sums, nullptr, false};
    }

    // Replaces what the accumulators hold.
    Product described(const Tile& a, const LaidOutWeights& b, const Tile& acc) const {
        const auto size = static_cast<std::int64_t>(b.size);
        Product product{};
        product.a = a.bytes;
        product.a_stride = a.stride;
        product.a_signed = a_signed_;
        product.b = b.values;
        product.quads = b.quads;
        product.column_sums = b.column_sums;
        product.acc = acc.bytes;
        product.acc_stride = acc.stride;
        product.columns = columns_;
        product.depth = depth_;
        product.result = Result::replace;
        product.next = b.is_kept ? b.values + size : nullptr;
        product.next_bytes = b.is_kept ? size : 0;
        return product;
    }

    static auto kernel(const Machine& machine, const Product& product) {
        return product.quads ? machine.kernels.sparse->product : machine.kernels.product;
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

    bool multiply(Machine& machine, Product product, Result result) const {
        product.result = result;
        const auto run = kernel(machine, product);
        const std::int64_t macs = std::int64_t{rows_} * columns_ * depth_;
        if (macs < smallest_shared) return run(product, 0, rows_);
        return machine.team.share(rows_, [product, run](int first, int last) { return run(product, first, last); });
    }
};

// b is a matrix of activations.
class MultiplyActivations : public Multiply {
public:
    MultiplyActivations(const InstructionDescription& instruction, Shared& shared)
        : Multiply(instruction, shared), transposed_(instruction.number("b_transposed") != 0) {}

protected:
    LaidOutWeights laid_out(Machine& machine) const override {
        return lay_out(machine.kernels, matrix(machine.tile(b_)), machine.laid_out, machine.column_sums);
    }

    // Each thread lays b out for itself: that takes less time than to hand it over.
    bool run_ahead(Machine& machine) const override {
        if (!runs_ahead()) return false;
        const Tile a = machine.tile(a_), b = machine.tile(b_), acc = machine.tile(acc_);
        const std::array touched{a.read_by_rows(), b.read_as_a_whole(), acc.written_by_rows()};
        return machine.team.run_ahead(rows_, touched, [this, kernels = &machine.kernels, a, b, acc](int first, int last) {
            thread_local Scratch values, sums;
            const LaidOutWeights its = lay_out(*kernels, matrix(b), values, sums);
            return kernels->product(described(a, its, acc), first, last);
        });
    }

private:
    Matrix matrix(const Tile& b) const {
        return {b.bytes, transposed_ ? 1 : b.stride, transposed_ ? b.stride : 1, columns_, depth_};
    }

    bool transposed_;
};

// b is a packed block of weights.
class MultiplyWeights : public Multiply {
public:
    MultiplyWeights(const InstructionDescription& instruction, Shared& shared)
        : Multiply(instruction, shared),
          shape_{columns_, depth_, instruction.number("n"), instruction.number("m"),
                 encoding_called(instruction.choice("encoding"))},
          cache_(shared.weights({columns_, depth_, shape_.n, shape_.m, instruction.choice("encoding")})),
          sparse_(kept_parts * shape_.n <= shape_.m ? sparse_kernels(shared.kernels) : nullptr),
          arena_(shared.arena) {}

protected:
    LaidOutWeights laid_out(Machine& machine) const override {
        const View block = machine.weights(b_);
        if (!block.constant) return derive(machine, block.bytes);
        if (const LaidOutWeights* known = find(block)) return *known;
        const LaidOutWeights derived = derive(machine, block.bytes);
        const std::size_t size = derived.size + column_sums_size() + (derived.quads ? quads_size() : 0);
        if (!derived.values || !cache_.has_room(static_cast<std::int64_t>(size))) return derived;
        auto weights = std::make_unique<LaidOutWeights>(kept(derived, arena_.take(size)));
        return *cache_.keep(block.bytes, std::move(weights), static_cast<std::int64_t>(size));
    }

    // Weights that are kept stay where they are, whatever comes next.
    bool run_ahead(Machine& machine) const override {
        if (!runs_ahead()) return false;
        const View block = machine.weights(b_);
        if (!block.constant) return false;
        const LaidOutWeights* known = find(block);
        if (!known) return false;
        const Tile a = machine.tile(a_), acc = machine.tile(acc_);
        const Product product = described(a, *known, acc);
        const std::array touched{a.read_by_rows(), acc.written_by_rows()};
        return machine.team.run_ahead(rows_, touched, [product, run = kernel(machine, product)](int first, int last) {
            return run(product, first, last);
        });
    }

private:
    const LaidOutWeights* find(const View& block) const {
        cache_.read_ahead(block.bytes, b_.row_bytes * b_.rows);
        return cache_.find(block.bytes);
    }

    // Sparse weights take two bytes each.
    static constexpr int kept_parts = 4;

    static const SparseKernels* sparse_kernels(const Kernels& kernels) {
        return kernels.sparse && kernels.sparse->runs_here() ? kernels.sparse : nullptr;
    }

    std::size_t quads_size() const {
        return sizeof(std::uint16_t) * static_cast<std::size_t>(sparse_->quad_counts(columns_, depth_));
    }

    LaidOutWeights kept(const LaidOutWeights& weights, std::uint8_t* piece) const {
        std::uint8_t* sums = piece + weights.size;
        std::memcpy(piece, weights.values, weights.size);
        std::memcpy(sums, weights.column_sums, column_sums_size());
        std::uint8_t* quads = nullptr;
        if (weights.quads) {
            quads = sums + column_sums_size();
            std::memcpy(quads, weights.quads, quads_size());
        }
        return {reinterpret_cast<const std::int8_t*>(piece), weights.size, reinterpret_cast<const std::int32_t*>(sums),
                reinterpret_cast<const std::uint16_t*>(quads), true};
    }

    LaidOutWeights derive(Machine& machine, const std::uint8_t* block) const {
        const std::uint8_t* dense = block;
        if (shape_.encoding != Encoding::dense) {
            std::uint8_t* weights = machine.results.take(static_cast<std::size_t>(columns_) * depth_);
            if (!unpack(block, shape_, weights)) return {};
            dense = weights;
        }
        const Matrix matrix{dense, depth_, 1, columns_, depth_};
        if (sparse_) return lay_out_sparse(machine, matrix);
        return lay_out(machine.kernels, matrix, machine.laid_out, machine.column_sums);
    }

    LaidOutWeights lay_out_sparse(Machine& machine, const Matrix& matrix) const {
        auto* quads = reinterpret_cast<std::uint16_t*>(machine.quads.take(quads_size()));
        auto* sums = reinterpret_cast<std::int32_t*>(machine.column_sums.take(column_sums_size()));
        const std::size_t size = sparse_->count_quads(matrix, quads);
        std::uint8_t* stream = machine.laid_out.take(size);
        sparse_->lay_out(matrix, quads, stream, sums);
        return {reinterpret_cast<const std::int8_t*>(stream), size, sums, quads, false};
    }

    PackedShape shape_;
    WeightCache& cache_;
    const SparseKernels* sparse_;  // null: weights are laid out as dense ones
    Arena& arena_;
};

}  // namespace

std::unique_ptr<Operation> make_mm(const InstructionDescription& instruction, Shared& shared) {
    if (instruction.choice("b_space") == "spad") return std::make_unique<MultiplyActivations>(instruction, shared);
    return std::make_unique<MultiplyWeights>(instruction, shared);
}

}  // namespace sta
