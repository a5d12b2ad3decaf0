#!/usr/bin/perl
# What a small service in perl looks like: two modules that nearly all of them load, one line out.
use strict;
use warnings;
use IO::Socket;
use POSIX qw(strftime);

my $word = "hello";
die "not a word: $word\n" unless $word =~ /^[a-z]+$/;
print "$word\n";
