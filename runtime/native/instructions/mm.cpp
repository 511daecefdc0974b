// mm: the product of a tile.

#include <array>

#include "instructions/instruction.h"
#include "instructions/packed_weights.h"

namespace sta {
namespace {

// Products smaller than this are done before another thread has begun.
constexpr std::int64_t smallest_shared_products = 1 << 17;

constexpr std::int64_t largest_m = 32;
// That many products take as long as moving a byte.
constexpr std::int64_t products_of_a_byte = 64;

struct Fields {
    explicit Fields(const InstructionDescription& instruction)
        : rows(size_field(instruction, "rows")),
          columns(size_field(instruction, "columns")),
          depth(size_field(instruction, "depth")),
          a_signed(choice_field<bool>(instruction, "a_type", {{"s8", true}, {"u8", false}})),
          a_wide(instruction.flag("a_wide")),
          accumulate(instruction.flag("accumulate")),
          b_space(choice_field<Space>(instruction, "b_space", {{"wbuf", Space::wbuf}, {"spad", Space::spad}})),
          b_transposed(instruction.flag("b_transposed")) {}

    int rows, columns, depth;
    bool a_signed, a_wide, accumulate;
    Space b_space;
    bool b_transposed;
};

// Of b in wbuf.
PackedShape packed_shape(const InstructionDescription& instruction) {
    const Fields fields(instruction);
    const int m = size_field(instruction, "m", largest_m);
    const auto encoding = choice_field<Encoding>(
        instruction, "encoding",
        {{"dense", Encoding::dense}, {"bitmap", Encoding::bitmap}, {"index", Encoding::index}});
    return {fields.columns, fields.depth, size_field(instruction, "n", m), m, encoding};
}

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const Fields fields(instruction);
    Extent b{.name = "b", .spaces = {fields.b_space}, .rows = 1, .row_bytes = 0, .lie = Rows::adjacent};
    if (fields.b_space == Space::wbuf) {
        b.row_bytes = packed_size(packed_shape(instruction));
    } else {
        b.rows = fields.b_transposed ? fields.depth : fields.columns;
        b.row_bytes = fields.b_transposed ? fields.columns : fields.depth;
        b.lie = Rows::anyhow;
    }
    return {{.name = "a",
             .spaces = {Space::spad},
             .rows = fields.rows,
             .row_bytes = fields.a_wide ? 2 * fields.depth - 1 : fields.depth},
            b,
            {.name = "acc",
             .spaces = {Space::acc},
             .rows = fields.rows,
             .row_bytes = word * fields.columns,
             .lie = Rows::apart,
             .writes = true}};
}

// In the arena of the program, or in a machine's scratch.
struct LaidOutWeights {
    const std::int8_t* values;  // null: the packed weights are malformed
    std::size_t size;
    const std::int32_t* column_sums;
    const std::uint16_t* quads;  // null: not laid out as sparse weights
    bool is_kept;                // in the arena, where what is used next lies behind it

    void read_ahead() const { __builtin_prefetch(column_sums); }
};

class Multiply : public DecodedInstruction {
public:
    Multiply(const InstructionDescription& instruction, const Shared& shared)
        : a_(instruction.operand("a")),
          b_(instruction.operand("b")),
          acc_(instruction.operand("acc")),
          fields_(instruction),
          layout_(shared.kernels.layout) {}

    bool execute(Machine& machine) const override {
        if (machine.goes_ahead && run_ahead(machine)) return true;
        if (!machine.settle()) return false;
        const LaidOutWeights b = laid_out(machine);
        if (!b.values) return false;
        const Tile a = activations(machine), acc = machine.tile(acc_);
        const Product product = described(a, b, acc);
        if (multiply(machine, product, fields_.accumulate ? Result::add : Result::replace)) return true;
        multiply(machine, product, Result::take_back);
        return false;
    }

    // A sum that is added may not fit; what replaces others always does.
    bool runs_ahead() const override { return !fields_.a_wide && !fields_.accumulate; }

    std::int64_t work() const override { return products() / products_of_a_byte; }

protected:
    // No values: the packed weights are malformed.
    virtual LaidOutWeights laid_out(Machine& machine) const = 0;
    // False if that is not possible; then nothing has happened.
    virtual bool run_ahead(Machine& machine) const = 0;

    std::int64_t products() const { return std::int64_t{fields_.rows} * fields_.columns * fields_.depth; }
    std::size_t laid_out_size() const { return layout_.size(fields_.columns, fields_.depth); }
    std::size_t column_sums_size() const { return word * static_cast<std::size_t>(layout_.padded(fields_.columns)); }

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
        product.a_signed = fields_.a_signed;
        product.b = b.values;
        product.quads = b.quads;
        product.column_sums = b.column_sums;
        product.acc = acc.bytes;
        product.acc_stride = acc.stride;
        product.columns = fields_.columns;
        product.depth = fields_.depth;
        product.result = Result::replace;
        product.next = b.is_kept ? b.values + size : nullptr;
        product.next_bytes = b.is_kept ? size : 0;
        return product;
    }

    static auto kernel(const Machine& machine, const Product& product) {
        return product.quads ? machine.kernels.sparse->multiply_rows : machine.kernels.multiply_rows;
    }

    Operand a_, b_, acc_;
    Fields fields_;
    Layout layout_;

private:
    // Rows of activations whose elements lie next to each other.
    Tile activations(Machine& machine) const {
        const Tile a = machine.tile(a_);
        if (!fields_.a_wide) return a;
        const auto size = static_cast<std::size_t>(fields_.rows) * static_cast<std::size_t>(fields_.depth);
        const Tile plane{machine.activations.take(size), fields_.depth, fields_.rows, fields_.depth};
        for (int row = 0; row < fields_.rows; ++row) {
            machine.kernels.copy_every_other_byte(a.bytes + row * a.stride, plane.bytes + row * plane.stride, fields_.depth);
        }
        return plane;
    }

    bool multiply(Machine& machine, Product product, Result result) const {
        product.result = result;
        const auto run = kernel(machine, product);
        if (products() < smallest_shared_products) return run(product, 0, fields_.rows);
        return machine.team.share(fields_.rows, [product, run](int first, int last) { return run(product, first, last); });
    }
};

// b is a matrix of activations.
class MultiplyActivations : public Multiply {
public:
    using Multiply::Multiply;

protected:
    LaidOutWeights laid_out(Machine& machine) const override {
        return lay_out(machine.kernels, matrix(machine.tile(b_)), machine.laid_out, machine.column_sums);
    }

    // Each thread lays b out for itself: that takes less time than to hand it over.
    bool run_ahead(Machine& machine) const override {
        if (!runs_ahead()) return false;
        const Tile a = machine.tile(a_), b = machine.tile(b_), acc = machine.tile(acc_);
        const std::array touched{a.read_by_rows(), b.read_as_a_whole(), acc.written_by_rows()};
        return machine.team.run_ahead(fields_.rows, touched, [this, kernels = &machine.kernels, a, b, acc](int first, int last) {
            thread_local Scratch values, sums;
            const LaidOutWeights its = lay_out(*kernels, matrix(b), values, sums);
            return kernels->multiply_rows(described(a, its, acc), first, last);
        });
    }

private:
    Matrix matrix(const Tile& b) const {
        const bool transposed = fields_.b_transposed;
        return {b.bytes, transposed ? 1 : b.stride, transposed ? b.stride : 1, fields_.columns, fields_.depth};
    }
};

// b is a packed block of weights.
class MultiplyWeights : public Multiply {
public:
    MultiplyWeights(const InstructionDescription& instruction, Shared& shared)
        : Multiply(instruction, shared),
          shape_(packed_shape(instruction)),
          cache_(shared.cache<LaidOutWeights>(
              {shape_.columns, shape_.depth, shape_.n, shape_.m, static_cast<int>(shape_.encoding)})),
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
        return machine.team.run_ahead(fields_.rows, touched, [product, run = kernel(machine, product)](int first, int last) {
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
        return sizeof(std::uint16_t) * static_cast<std::size_t>(sparse_->quad_counts(fields_.columns, fields_.depth));
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
            std::uint8_t* weights = machine.results.take(static_cast<std::size_t>(fields_.columns) * fields_.depth);
            if (!unpack(block, shape_, weights)) return {};
            dense = weights;
        }
        const Matrix matrix{dense, fields_.depth, 1, fields_.columns, fields_.depth};
        if (sparse_) return lay_out_sparse(machine, matrix);
        return lay_out(machine.kernels, matrix, machine.laid_out, machine.column_sums);
    }

    LaidOutWeights lay_out_sparse(Machine& machine, const Matrix& matrix) const {
        auto* quads = reinterpret_cast<std::uint16_t*>(machine.quads.take(quads_size()));
        auto* sums = reinterpret_cast<std::int32_t*>(machine.column_sums.take(column_sums_size()));
        const std::size_t size = sparse_->count_quads(matrix, quads);
        std::uint8_t* bytes = machine.laid_out.take(size);
        sparse_->lay_out(matrix, quads, bytes, sums);
        return {reinterpret_cast<const std::int8_t*>(bytes), size, sums, quads, false};
    }

    PackedShape shape_;
    Cache<LaidOutWeights>& cache_;
    const SparseKernels* sparse_;  // null: weights are laid out as dense ones
    Arena& arena_;
};

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared& shared) {
    const Space b_space = instruction.operand("b").space;
    if (b_space == Space::spad) return std::make_unique<MultiplyActivations>(instruction, shared);
    return std::make_unique<MultiplyWeights>(instruction, shared);
}

const InstructionType type{"mm", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
