// softmax: exponentials of attention scores, and their sums.

#include <array>

#include "instructions/instruction.h"
#include "instructions/parameters.h"

namespace sta {
namespace {

constexpr std::int64_t parameter_bytes = 16;
// The state of rows between chunks: sums and maxima, which are read again, and shifts.
constexpr int known_arrays = 2, state_arrays = 3;

enum class Mode { row, online, online_first };

struct Fields {
    explicit Fields(const InstructionDescription& instruction)
        : rows(size_field(instruction, "rows")),
          keys(size_field(instruction, "keys")),
          exponential_bits(choice_field<int>(instruction, "probability_bits", {{"8", 8}, {"16", 16}})),
          mode(choice_field<Mode>(
              instruction, "mode",
              {{"row", Mode::row}, {"online", Mode::online}, {"online_first", Mode::online_first}})),
          causal(instruction.flag("causal")),
          has_mask(instruction.flag("has_mask")),
          has_bias(instruction.flag("has_bias")) {}

    bool is_online() const { return mode != Mode::row; }
    // Whether it goes on with the sums and maxima of the keys before.
    bool has_state() const { return mode == Mode::online; }

    int rows, keys, exponential_bits;
    Mode mode;
    bool causal, has_mask, has_bias;
};

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const Fields fields(instruction);
    const std::int64_t vector_bytes = word * fields.rows;
    std::vector<Extent> all = {
        {.name = "scores", .spaces = {Space::acc}, .rows = fields.rows, .row_bytes = word * fields.keys},
        {.name = "parameters",
         .spaces = {Space::wbuf},
         .rows = 1,
         .row_bytes = parameter_bytes,
         .lie = Rows::adjacent}};
    if (fields.has_mask) {
        all.push_back({.name = "mask", .spaces = {Space::spad}, .rows = fields.rows, .row_bytes = fields.keys});
    }
    if (fields.has_bias) {
        all.push_back({.name = "bias", .spaces = {Space::spad}, .rows = fields.rows, .row_bytes = 2 * fields.keys});
    }
    if (fields.has_state()) {
        all.push_back({.name = "state",
                       .spaces = {Space::spad},
                       .rows = known_arrays,
                       .row_bytes = vector_bytes,
                       .lie = Rows::adjacent});
    }
    all.push_back({.name = "destination",
                   .spaces = {Space::spad},
                   .rows = fields.rows,
                   .row_bytes = fields.exponential_bits / 8 * fields.keys,
                   .lie = Rows::apart,
                   .writes = true});
    all.push_back({.name = "sums",
                   .spaces = {Space::spad},
                   .rows = fields.is_online() ? state_arrays : 1,
                   .row_bytes = vector_bytes,
                   .lie = Rows::adjacent,
                   .writes = true});
    return all;
}

// Of scores, and of their bias.
struct Scales {
    Scale scores, bias;
};

bool read_parameters(const std::uint8_t* block, bool has_bias, Scales& scales) {
    scales.scores = read_scale(block, 0);
    if (has_bias) scales.bias = read_scale(block, 8);
    return is_scale(scales.scores) && (!has_bias || is_scale(scales.bias));
}

class Softmaxes : public DecodedInstruction {
public:
    Softmaxes(const InstructionDescription& instruction, const Shared& shared)
        : scores_(instruction.operand("scores")),
          destination_(instruction.operand("destination")),
          sums_(instruction.operand("sums")),
          parameters_(instruction.operand("parameters")),
          row_offset_(instruction.in_register("row_offset")),
          key_offset_(instruction.in_register("key_offset")),
          fields_(instruction),
          exponentials_(shared.exponentials(fields_.exponential_bits)) {
        if (fields_.has_mask) mask_ = instruction.operand("mask");
        if (fields_.has_bias) bias_ = instruction.operand("bias");
    }

    bool runs_ahead() const override { return !fields_.is_online(); }

    bool execute(Machine& machine) const override {
        Scales scales{};
        if (!read_parameters(machine.weights(parameters_).bytes, fields_.has_bias, scales)) return false;
        if (machine.goes_ahead && run_ahead(machine, scales)) return true;
        if (!machine.settle()) return false;
        const Tile destination = machine.tile(destination_), sums = machine.tile(sums_);
        const auto count = static_cast<std::size_t>(fields_.rows);
        auto* states = reinterpret_cast<std::int32_t*>(machine.rows.take((state_arrays + known_arrays) * word * count));
        std::int32_t* known = states + state_arrays * count;
        if (fields_.has_state()) std::memcpy(known, sums.bytes, known_arrays * word * count);
        const RowStates row_states{fields_.has_state() ? known : nullptr, known + count, states + count, states + 2 * count};
        Softmax softmax = described(machine, destination, scales);
        softmax.sums = states;
        softmax.states = fields_.is_online() ? &row_states : nullptr;
        // The result of keys after the first may turn out to be out of range; and a mask or a bias may lie where it goes.
        const bool direct = !fields_.has_state() && (!fields_.has_mask || destination.apart_from(machine.tile(mask_))) &&
                            (!fields_.has_bias || destination.apart_from(machine.tile(bias_)));
        Tile aside{};
        if (!direct) {
            aside = destination.aside(machine.results);
            softmax.destination = aside.bytes;
            softmax.destination_stride = aside.stride;
        }
        if (!run(machine, softmax)) return false;
        if (!direct) aside.copy_to(destination);
        std::memcpy(sums.bytes, states, (fields_.is_online() ? state_arrays : 1) * word * count);
        return true;
    }

private:
    Softmax described(Machine& machine, const Tile& destination, const Scales& scales) const {
        const Tile scores = machine.tile(scores_);
        const std::int64_t* counters = machine.counters.data();
        Softmax softmax{};
        softmax.scores = scores.bytes;
        softmax.scores_stride = scores.stride;
        if (fields_.has_mask) {
            const Tile mask = machine.tile(mask_);
            softmax.mask = mask.bytes;
            softmax.mask_stride = mask.stride;
        }
        if (fields_.has_bias) {
            const Tile bias = machine.tile(bias_);
            softmax.bias = bias.bytes;
            softmax.bias_stride = bias.stride;
        }
        softmax.causal = fields_.causal;
        softmax.diagonal = row_offset_.at(counters) - key_offset_.at(counters);
        softmax.scale = scales.scores;
        softmax.bias_scale = scales.bias;
        softmax.exponentials = exponentials_;
        softmax.destination = destination.bytes;
        softmax.destination_stride = destination.stride;
        softmax.keys = fields_.keys;
        return softmax;
    }

    // False if that is not possible; then nothing has happened.
    bool run_ahead(Machine& machine, const Scales& scales) const {
        const Tile destination = machine.tile(destination_), sums = machine.tile(sums_);
        if (!runs_ahead() || !destination.apart_from(sums)) return false;
        std::array<SharedRows, Team::most_touched> touched{machine.tile(scores_).read_by_rows(),
                                                           destination.written_by_rows(),
                                                           SharedRows{sums.bytes, 4, 4, true}};
        std::size_t count = 3;
        const auto touch = [&](const Tile& read) {
            touched[count++] = read.read_by_rows();
            return read.apart_from(destination) && read.apart_from(sums);
        };
        if (fields_.has_mask && !touch(machine.tile(mask_))) return false;
        if (fields_.has_bias && !touch(machine.tile(bias_))) return false;
        const auto work = [softmax = described(machine, destination, scales), kernel = machine.kernels.softmax_rows,
                           sums = sums.bytes](int first, int last) {
            thread_local Scratch scratch;
            Softmax its = softmax;
            its.sums = reinterpret_cast<std::int32_t*>(scratch.take(4 * static_cast<std::size_t>(last)));
            if (!kernel(its, first, last)) return false;
            std::memcpy(sums + 4 * first, its.sums + first, 4 * static_cast<std::size_t>(last - first));
            return true;
        };
        return machine.team.run_ahead(fields_.rows, std::span(touched).first(count), work);
    }

    bool run(Machine& machine, const Softmax& softmax) const {
        if (fields_.rows * fields_.keys < smallest_shared) return machine.kernels.softmax_rows(softmax, 0, fields_.rows);
        const auto kernel = machine.kernels.softmax_rows;
        return machine.team.share(fields_.rows, [softmax, kernel](int first, int last) { return kernel(softmax, first, last); });
    }

    Operand scores_, destination_, sums_, parameters_, mask_, bias_;
    Affine row_offset_, key_offset_;
    Fields fields_;
    Exponentials exponentials_;
};

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared& shared) {
    return std::make_unique<Softmaxes>(instruction, shared);
}

const InstructionType type{"softmax", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
