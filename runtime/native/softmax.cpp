// softmax: exponentials of attention scores, and their sums.

#include <array>

#include "operation.h"
#include "parameters.h"

namespace sta {
namespace {

constexpr int smallest_shared = 2048;  // scores

class Softmaxes : public Operation {
public:
    Softmaxes(const InstructionDescription& instruction, Shared& shared)
        : scores_(instruction.operand("scores")),
          destination_(instruction.operand("destination")),
          sums_(instruction.operand("sums")),
          parameters_(instruction.operand("parameters")),
          row_offset_(instruction.in_register("row_offset")),
          key_offset_(instruction.in_register("key_offset")),
          exponentials_(shared.exponentials(std::stoi(instruction.choice("p_bits")))),
          rows_(instruction.number("rows")),
          keys_(instruction.number("keys")),
          causal_(instruction.number("causal") != 0),
          has_mask_(instruction.optional_operand("mask") != nullptr),
          online_(instruction.choice("mode") != "row"),
          has_state_(instruction.optional_operand("state") != nullptr) {
        if (has_mask_) mask_ = instruction.operand("mask");
    }

    bool runs_ahead() const override { return !online_; }

    bool execute(Machine& machine) const override {
        Scale scale;
        if (!read_softmax_parameters(machine.weights(parameters_).bytes, scale)) return false;
        if (machine.goes_ahead && run_ahead(machine, scale)) return true;
        if (!machine.settle()) return false;
        const Tile destination = machine.tile(destination_), sums = machine.tile(sums_);
        const auto count = static_cast<std::size_t>(rows_);
        // Sums, maxima and shifts, and what is known of the first two.
        auto* states = reinterpret_cast<std::int32_t*>(machine.rows.take(5 * 4 * count));
        std::int32_t* known = states + 3 * count;
        if (has_state_) std::memcpy(known, sums.bytes, 2 * 4 * count);
        const RowStates row_states{has_state_ ? known : nullptr, known + count, states + count, states + 2 * count};
        Softmax softmax = described(machine, destination, scale);
        softmax.sums = states;
        softmax.states = online_ ? &row_states : nullptr;
        // The result of keys after the first may turn out to be out of range; and a mask may lie where it goes.
        const bool direct = !has_state_ && (!has_mask_ || destination.apart_from(machine.tile(mask_)));
        if (!direct) {
            softmax.destination_stride = destination.row_bytes;
            softmax.destination = machine.results.take(static_cast<std::size_t>(rows_ * destination.row_bytes));
        }
        if (!run(machine, softmax)) return false;
        for (int row = 0; !direct && row < rows_; ++row) {
            std::memcpy(destination.bytes + row * destination.stride, softmax.destination + row * destination.row_bytes,
                        static_cast<std::size_t>(destination.row_bytes));
        }
        std::memcpy(sums.bytes, states, (online_ ? 3 : 1) * 4 * count);
        return true;
    }

private:
    Softmax described(Machine& machine, const Tile& destination, Scale scale) const {
        const Tile scores = machine.tile(scores_);
        const std::int64_t* counters = machine.counters.data();
        Softmax softmax{};
        softmax.scores = scores.bytes;
        softmax.scores_stride = scores.stride;
        if (has_mask_) {
            const Tile mask = machine.tile(mask_);
            softmax.mask = mask.bytes;
            softmax.mask_stride = mask.stride;
        }
        softmax.causal = causal_;
        softmax.diagonal = row_offset_.at(counters) - key_offset_.at(counters);
        softmax.scale = scale;
        softmax.exponentials = exponentials_;
        softmax.destination = destination.bytes;
        softmax.destination_stride = destination.stride;
        softmax.keys = keys_;
        return softmax;
    }

    // False if that is not possible; then nothing has happened.
    bool run_ahead(Machine& machine, Scale scale) const {
        const Tile destination = machine.tile(destination_), sums = machine.tile(sums_);
        if (!runs_ahead() || !destination.apart_from(sums)) return false;
        std::array touched{machine.tile(scores_).read_by_rows(), destination.written_by_rows(),
                           SharedRows{sums.bytes, 4, 4, true}, SharedRows{}};
        if (has_mask_) {
            const Tile mask = machine.tile(mask_);
            if (!mask.apart_from(destination) || !mask.apart_from(sums)) return false;
            touched.back() = mask.read_by_rows();
        }
        const auto work = [softmax = described(machine, destination, scale), kernel = machine.kernels.softmax,
                           sums = sums.bytes](int first, int last) {
            thread_local Scratch scratch;
            const auto count = static_cast<std::size_t>(last);
            Softmax its = softmax;
            its.sums = reinterpret_cast<std::int32_t*>(scratch.take(4 * count));
            if (!kernel(its, first, last)) return false;
            std::memcpy(sums + 4 * first, its.sums + first, 4 * static_cast<std::size_t>(last - first));
            return true;
        };
        return machine.team.run_ahead(rows_, std::span(touched).first(has_mask_ ? 4 : 3), work);
    }

    bool run(Machine& machine, const Softmax& softmax) const {
        if (rows_ * keys_ < smallest_shared) return machine.kernels.softmax(softmax, 0, rows_);
        const auto kernel = machine.kernels.softmax;
        return machine.team.share(rows_, [softmax, kernel](int first, int last) { return kernel(softmax, first, last); });
    }

    Operand scores_, destination_, sums_, parameters_, mask_;
    Affine row_offset_, key_offset_;
    Exponentials exponentials_;
    int rows_, keys_;
    bool causal_, has_mask_, online_, has_state_;
};

}  // namespace

std::unique_ptr<Operation> make_softmax(const InstructionDescription& instruction, Shared& shared) {
    return std::make_unique<Softmaxes>(instruction, shared);
}

}  // namespace sta
