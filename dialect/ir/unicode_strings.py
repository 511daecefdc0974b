"""
Strings of IR text that are not ASCII: module paths, inputs and source files may have any letters in their names.

MLIR and xDSL print such letters as the bytes of their UTF-8, "ö" as two of them, and xDSL reads that as bytes, which
neither names nor locations may be.
"""

from __future__ import annotations

from xdsl.context import Context
from xdsl.parser import Parser
from xdsl.parser.generic_parser import ParserState
from xdsl.utils.lexer import Input, Position
from xdsl.utils.mlir_lexer import MLIRLexer, MLIRToken, MLIRTokenKind, StringLiteral


class UnicodeParser(Parser):
    """Reads a literal whose bytes are UTF-8 as a string."""

    def __init__(self, context: Context, text: str, name: str = "<unknown>") -> None:
        super().__init__(context, text, name)
        self._parser_state = ParserState(_Lexer(Input(text, name)))


class _Lexer(MLIRLexer):
    def _lex_string_literal(self, start_pos: Position) -> MLIRToken:
        token = super()._lex_string_literal(start_pos)
        if token.kind is not MLIRTokenKind.BYTES_LIT:
            return token
        literal = token.span
        assert isinstance(literal, StringLiteral)
        try:
            literal.bytes_contents.decode()
        except UnicodeDecodeError:
            return token
        return MLIRToken(MLIRTokenKind.STRING_LIT, literal)
