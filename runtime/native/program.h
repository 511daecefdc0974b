// A program, decoded once and executed any number of times.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "checks.h"
#include "description.h"
#include "kernels.h"
#include "machine.h"
#include "operation.h"

namespace sta {

enum class Progress { running, halted, failed };

class Program {
public:
    // Throws BadDescription for a description that would lead outside a memory or out of the program.
    explicit Program(const ProgramDescription& description);

    std::unique_ptr<Machine> machine(int threads) const;

    // Executes instructions until the program ends, one fails, or the time is over.
    Progress advance(Machine& machine, std::chrono::duration<double> time) const;

    // How long a run takes; nothing if it ends in a deadlock. `look` is called now and then, and may throw.
    std::optional<Timing> timing(const std::function<void()>& look) const;

    // Whether no copy of a run reads attention scores.
    bool scores_stay_on_chip(const std::function<void()>& look) const;

    // The pc of the instruction at the machine's position.
    int pc(const Machine& machine) const { return nodes_[machine.position].pc; }

    const Kernels& kernels() const { return kernels_; }

private:
    enum class Kind { unit, fence, loop, end, halt };

    struct Node {
        Kind kind;
        int pc;
        int depth;                // of the loop, for a loop and its end
        std::int64_t iterations;
        std::size_t target;       // after the end for a loop, after the loop for an end
        const Operation* operation;
        std::int64_t issued;  // instructions that the sequencer issues here: address arithmetic before it, and itself
        std::size_t rules;    // where to find its job and its rule of taint
    };

    // Calls visit(node, counters, issued) for every instruction of a unit, fence and halt of a run in program order,
    // until it returns false; `issued` counts the instructions since the one before. Returns whether all returned true.
    template <typename Visit>
    bool walk(const std::function<void()>& look, const Visit& visit) const;

    void add(const InstructionDescription& instruction);

    // The description without its instructions: sizes and constants.
    ProgramDescription memories_;
    const Kernels& kernels_;
    std::unique_ptr<Shared> shared_;
    std::vector<std::unique_ptr<Operation>> operations_;
    std::vector<Node> nodes_;
    std::vector<Job> jobs_;
    std::vector<TaintRule> taint_rules_;
};

}  // namespace sta
