#!/bin/bash
# What a small service in bash looks like: a few functions, one line out.

fail() {
    printf 'error: %s\n' "$1"
    exit 1
}

greet() {
    local word=${1,,}
    [[ $word =~ ^[a-z]+$ ]] || fail "not a word: $word"
    printf '%s\n' "$word"
}

greet HELLO
