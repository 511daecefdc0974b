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

// Bytes of a memory.
std::int64_t size_of(const ProgramDescription& program, Space space);

// Uncertain: something has failed while other threads had gone ahead of it. The run says nothing then.
enum class Progress { running, halted, failed, uncertain };

class Program {
public:
    // Throws BadDescription for a description that would lead outside a memory or out of the program.
    explicit Program(const ProgramDescription& description);

    std::unique_ptr<Machine> machine(int threads) const;

    // Executes instructions until the program ends, one fails, or the time is over. Nothing goes on afterwards.
    Progress advance(Machine& machine, std::chrono::duration<double> time) const;

    // Calls visit(pc, counters, issued) for every instruction of a unit, fence and halt of a run in program order, until
    // it returns false; `issued` counts the instructions since the one before. Returns whether all returned true.
    // `look` is called now and then, and may throw.
    using Visitor = std::function<bool(int pc, const std::int64_t* counters, std::int64_t issued)>;
    bool follow(const std::function<void()>& look, const Visitor& visit) const;

    // Whether no copy of a run reads attention scores.
    bool scores_stay_on_chip(const std::function<void()>& look) const;

    // The pc of the instruction at the machine's position.
    int pc(const Machine& machine) const { return nodes_[machine.position].pc; }

    const Kernels& kernels() const { return kernels_; }
    std::int64_t queue_depth() const { return memories_.queue_depth; }
    int code_size() const { return static_cast<int>(rules_of_pc_.size()); }
    // What the timing of an instruction needs; none if it is not of a unit.
    const Job* job(int pc) const {
        const int rules = rules_of_pc_[static_cast<std::size_t>(pc)];
        return rules < 0 ? nullptr : &jobs_[static_cast<std::size_t>(rules)];
    }
    // What an instruction of a unit touches.
    const std::vector<Access>& accesses(int pc) const {
        return accesses_[static_cast<std::size_t>(rules_of_pc_[static_cast<std::size_t>(pc)])];
    }

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
        int weight;           // how many small instructions take as long, at most as many as a look at the clock is after
    };

    // Calls visit(node, counters, issued) for every instruction of a unit, fence and halt of a run in program order,
    // until it returns false; `issued` counts the instructions since the one before. Returns whether all returned true.
    template <typename Visit>
    bool walk(const std::function<void()>& look, const Visit& visit) const;

    Progress run(Machine& machine, std::chrono::duration<double> time) const;
    static bool execute(const Operation& operation, Machine& machine);
    void add(const InstructionDescription& instruction);

    // The description without its instructions: sizes and constants.
    ProgramDescription memories_;
    const Kernels& kernels_;
    std::unique_ptr<Shared> shared_;
    std::vector<std::unique_ptr<Operation>> operations_;
    std::vector<Node> nodes_;
    std::vector<Job> jobs_;
    std::vector<TaintRule> taint_rules_;
    std::vector<std::vector<Access>> accesses_;
    std::vector<int> rules_of_pc_;  // where to find these; -1 for instructions that are not of a unit
};

}  // namespace sta
