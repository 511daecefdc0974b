// A program, decoded once and executed any number of times.

#pragma once

#include <chrono>
#include <memory>
#include <vector>

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

    // The pc of the instruction at the machine's position.
    int pc(const Machine& machine) const { return nodes_[machine.position].pc; }

    const Kernels& kernels() const { return kernels_; }

private:
    enum class Kind { unit, loop, end, halt };

    struct Node {
        Kind kind;
        int pc;
        int depth;                // of the loop, for a loop and its end
        std::int64_t iterations;
        std::size_t target;       // after the end for a loop, after the loop for an end
        const Operation* operation;
    };

    void add(const InstructionDescription& instruction);

    // The description without its instructions: sizes and constants.
    ProgramDescription memories_;
    const Kernels& kernels_;
    std::unique_ptr<Shared> shared_;
    std::vector<std::unique_ptr<Operation>> operations_;
    std::vector<Node> nodes_;
};

}  // namespace sta
