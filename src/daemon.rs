//! Wires events to the machine and effects to the edges.
