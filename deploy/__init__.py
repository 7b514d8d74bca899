"""What leaves MXNet: conversion, export and what runs it."""
