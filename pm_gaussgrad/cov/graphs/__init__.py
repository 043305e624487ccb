"""Structures of graphs: Markov fields and what is made of them."""
