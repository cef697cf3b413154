"""Tests of the doctor, on machines made up from facts."""
