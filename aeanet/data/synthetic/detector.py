"""What a detector adds to the signal of a scan: noise, and errors of whole lines."""

import math

import cv2
import numpy as np

from aeanet.data.synthetic.acquisition import Acquisition, smoothing_kernel


def detect(signal: np.ndarray, settings: Acquisition, rng: np.random.Generator) -> np.ndarray:
    """`signal` (H, W) with all noise, grey levels above black, float32."""
    # The filters of the detector reduce white noise, so it is drawn stronger by what they take.
    band = settings.band_kernel
    kept = float((band**2).sum())
    noisy = signal
    if settings.shot:
        quantum = np.float32(settings.shot / settings.frames / kept)
        background = np.float32(settings.background)
        noisy = quantum * rng.poisson((signal + background) / quantum).astype(np.float32)
        noisy -= background
    if settings.read:
        read = np.float32(settings.read / math.sqrt(settings.frames * kept))
        noisy = noisy + read * rng.standard_normal(signal.shape, np.float32)
    if settings.spikes:
        struck = rng.uniform(0, 1, signal.shape) < settings.spikes
        noisy = noisy + struck * rng.exponential(100, signal.shape)
    noisy = noisy.astype(np.float32, copy=False)

    if settings.band:
        noisy = cv2.filter2D(noisy, cv2.CV_32F, band[None], borderType=cv2.BORDER_REFLECT_101)
    noisy = noisy + _line_errors(signal.shape, settings, rng)
    if settings.smoothing:
        weights = smoothing_kernel(settings.smoothing)
        edges = cv2.BORDER_REFLECT_101
        noisy = cv2.sepFilter2D(noisy, cv2.CV_32F, weights, weights, borderType=edges)
    return noisy


def _line_errors(
    shape: tuple[int, ...], settings: Acquisition, rng: np.random.Generator
) -> np.ndarray:
    """What disturbs lines as a whole: stripes, hum and charging events, (H, W) or (H, 1)
    float32.
    """
    lines = (shape[0], 1)
    column = np.arange(shape[1])
    error = np.zeros(lines)
    if settings.stripes:
        error = error + rng.normal(0, settings.stripes / math.sqrt(settings.frames), lines)
    if settings.hum:
        along = column / rng.uniform(4, 200)
        time = along + rng.uniform(0, 1) * np.arange(shape[0])[:, None]
        error = error + settings.hum * np.sin(2 * np.pi * time)
    if settings.streaks:
        struck = rng.uniform(0, 1, lines) < settings.streaks
        where = rng.uniform(-shape[1], shape[1], lines)
        length = rng.uniform(5, 80, lines)
        size = struck * rng.normal(0, settings.contrast, lines)
        after = column - where
        error = error + size * np.where(after >= 0, np.exp(-np.maximum(after, 0) / length), 0)
    return error.astype(np.float32)
