"""Particle methods: a set of points that moves as a whole."""

from infer.particles.svgd import SVGD as SVGD
